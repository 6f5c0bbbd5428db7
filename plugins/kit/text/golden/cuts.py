"""What a page of hard text becomes, cut in each of the ways that GGUF files name: `cuts.json`.

    python cuts.py [--published NAME=FILE ...]

Made with xllamacpp 2026.10.11549 (llama.cpp of October 2026), tokenizers 0.23 and regex 2026.11. For each name the script
writes a GGUF file of one tiny layer and records what llama.cpp makes of the page. The vocabulary was learnt from the page
without cutting it, so a pair is merged across every place where a way doesn't cut.

Where a tokenizer's published `tokenizer.json` is at hand (`--published`), its own pre-tokenizer over the same vocabulary is
recorded instead, since that is what models learnt with; lines where llama.cpp differs are printed.

llama.cpp's expressions for a few ways are simpler than the published ones that they stand for. On those lines the published
expressions are recorded, as the package `regex` applies them: an engine other than the one that is tested. On all other
lines of these ways it cuts as llama.cpp does, which the script checks.
"""

import argparse
import json
import sys
import tempfile
import unicodedata
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [path for path in sys.path if Path(path).resolve() != HERE]  # beside this script lies another gguf.py
import gguf  # noqa: E402
import numpy as np  # noqa: E402

NAMES = """gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum modern-bert
smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 default falcon
llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 dbrx smaug-bpe chatglm-bpe glm4
qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open grok-2 kormo qwen35 tekken
gpt-4o llama4 kanana2 talkie minimax-m2 tiny_aya cohere2moe deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense
joyai-llm hy_v4 poro-chat bloom gpt3-finnish viking superbpe bailingmoe bailingmoe2 llada-moe seed-coder exaone-moe
minicpm5 youtu jais-2 chameleon ufakzeka""".split()

PAGE = [
    "Hello, World! It's 5 o'clock; they'll say we've won, I'M sure HE'D agree, y'all'RE.",
    "1 12 123 1234 12345 123456 1234567 and 3.14159, -2e10, 1,000,000 or 007; a1b22c333d4444",
    "  two  spaces   three\tTab\t\ttabs \t mixed ",
    "line\nbreaks\n\n\ntwo\r\nwindows\r\n\r\n end  \n  indented\n\tdef f(x):\n\t\treturn x**2  # done\n",
    "            twelve blanks\n                sixteen\n",
    "if (a<=b && c!=d) { x[i] += $y->z ^ ~w | `q`; } // https://example.org/p?q=1&r=%20#top",
    "CamelCaseWords XMLHttpRequest snake_case_name kebab-case-name SHOUTING iPhone eBay McDonald",
    "naïve café Ünïcödé Straße ÆØÅ œuvre ĳsselmeer",
    "Привет, мир! Съешь ещё этих мягких французских булок 123",
    "Ελληνικά κείμενα με τόνους · και σημεία;",
    "日本語のテキスト、カタカナとひらがな。123円 「引用」",
    "中文文本,没有空格。一二三四 12345 元！？",
    "한국어 문장입니다. 띄어쓰기가 있습니다 2024년",
    "हिन्दी में लिखा हुआ पाठ १२३ और कुछ शब्द",
    "العربية نص مكتوب من اليمين، ١٢٣ كلمة؟",
    "ไทยไม่มีช่องว่างระหว่างคำ ๑๒๓",
    "emoji 😀👍🏽 👨‍👩‍👧‍👦 🇩🇪 flags, ♥ ★ → ∑ ∞ ≠ ½ ² ³ Ⅷ ①",
    "“quotes” ‘single’ — dash – en… «guillemets» „low“ 100€ £5 ¥20 50% §3 ©®™",
    "e\u0301 combining a\u0308o\u0308 decomposed",
    "mixed123abc 4you 2nd 3rd v1.2.3-rc4 0xDEADBEEF 1_000",
    "'''triple''' \"\"\"docs\"\"\" ''s 's't 're",
    "\u00a0no-break\u2003em\u3000ideographic\u200bzero",
    "a  b   c    d     e      f\n \n  \n   \n",
    "...!!!???---===***///\\\\\\ (((nested [brackets] {braces})))",
    "<sentinel:12> IMGIMGABZ <|im_start|>user\nhi<|im_end|>",
    "ǅ ǈ titlecase ʰ modifier ªº ordinals ﬁ ligature ȺȾ",
]

# What is published of ways that llama.cpp has in a simpler form: expressions, each applied to what the one before left, the
# normal form, whether a piece that is a token stays whole, and the lines on which that makes a difference.
ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CASED = (
    r"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{0}"
    r"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{0}"
    r"|{1}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
THREE, ONE = r"\p{N}{1,3}", r"\p{N}"
QWEN = ENDS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN35 = ENDS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
AYA = [r"\d{1,3}(?=(?:\d{3})*\b)", CASED.format(ENDS + "?", THREE)]
YOUTU = ["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", CASED.format(ENDS + "?", ONE)]
HAN = "[一-龥ࠀ-一가-퟿]+"
# Of the letters that have cases, those of Europe: the page has no others.
DEEPSEEK_LLM = ["[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯﬀ-ﬆ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", HAN, r"\p{N}+"]
DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN, ONE]
MARKS = [13, 15, 18]
PUBLISHED = {
    # llama.cpp has no class of marks here.
    "tekken": ([CASED.format("", ONE)], None, True, MARKS),
    **dict.fromkeys(["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], ([CASED.format(ENDS + "?", THREE)], None, False, MARKS)),
    # And no normal form.
    **dict.fromkeys(["qwen2", "deepseek-r1-qwen", "megrez"], ([QWEN], "NFC", False, [18])),
    "qwen35": ([QWEN35], "NFC", False, [18]),
    # It takes some letters for what they are not where it translates classes (`eBay`, syllables of Hangul).
    **dict.fromkeys(["tiny_aya", "cohere2moe"], (AYA, None, False, [6, 12])),
    "youtu": (YOUTU, None, True, [6]),
    # Blanks beyond ASCII in front of a word.
    "deepseek-llm": (DEEPSEEK_LLM, None, False, [21]),
    "deepseek-coder": (DEEPSEEK_CODER, None, False, [21]),
}


def learn(lines):
    """A vocabulary of bytes, and pairs that join whatever stands side by side most often."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=1400, initial_alphabet=alphabet, show_progress=False))
    state = json.loads(tokenizer.to_str())
    vocabulary = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    return vocabulary, [" ".join(pair) if isinstance(pair, list) else pair for pair in state["model"]["merges"]]


def by_llama_cpp(name, vocabulary, merges):
    import xllamacpp

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(1)
        writer.add_context_length(64)
        writer.add_embedding_length(32)
        writer.add_feed_forward_length(32)
        writer.add_head_count(1)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(vocabulary)
        writer.add_token_types([gguf.TokenType.NORMAL] * len(vocabulary))
        writer.add_token_merges(merges)
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_add_bos_token(False)
        layer = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
        shapes = {f"blk.0.{part}": (32, 32) for part in layer} | {"token_embd": (len(vocabulary), 32)}
        shapes |= {part: (32,) for part in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]}
        for tensor, shape in shapes.items():
            writer.add_tensor(f"{tensor}.weight", np.zeros(shape, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        settings = xllamacpp.CommonParams()
        settings.model.path, settings.n_ctx, settings.n_parallel, settings.warmup = str(path), 64, 1, False
        server = xllamacpp.Server(settings)
        lines = []
        for line in PAGE:
            body = json.dumps({"content": line, "add_special": False, "parse_special": False}).encode()
            request = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                lines.append(json.load(answer)["tokens"])
        return lines


def by_expression(line, vocabulary, merges, patterns, form, whole):
    import regex
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [unicodedata.normalize(form, line) if form else line]
    for pattern in patterns:
        finer = []
        for piece in pieces:
            at = 0
            for found in regex.finditer(pattern, piece):
                finer += [piece[at:found.start()], found.group()]
                at = found.end()
            finer.append(piece[at:])
        pieces = [piece for piece in finer if piece]
    ids = {token: id for id, token in enumerate(vocabulary)}
    pairs = Tokenizer(models.BPE(ids, [tuple(pair.split(" ")) for pair in merges], ignore_merges=whole))
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return [id for piece in pieces for id in pairs.encode(piece, add_special_tokens=False).ids]


def by_published(file, vocabulary, merges):
    from tokenizers import Tokenizer

    state = json.loads(Path(file).read_text())
    state["model"].update(vocab={token: id for id, token in enumerate(vocabulary)}, merges=merges)
    state.update(added_tokens=[], post_processor=None)
    tokenizer = Tokenizer.from_str(json.dumps(state))
    return [tokenizer.encode(line, add_special_tokens=False).ids for line in PAGE]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--published", nargs="*", default=[], metavar="NAME=FILE")
    published = dict(pair.split("=", 1) for pair in parser.parse_args().published)
    vocabulary, merges = learn(PAGE)
    cuts = {}
    for name in NAMES:
        try:
            cuts[name] = by_llama_cpp(name, vocabulary, merges)
        except Exception as error:
            print(f"{name}: llama.cpp does not know it ({error})", file=sys.stderr)
            continue
        if name in published:
            own = by_published(published[name], vocabulary, merges)
            for number, (theirs, line) in enumerate(zip(cuts[name], own)):
                if theirs != line:
                    print(f"{name}: llama.cpp differs from the published tokenizer on {PAGE[number]!r}")
            cuts[name] = own
        elif name in PUBLISHED:
            *how, simpler = PUBLISHED[name]
            for number, line in enumerate(PAGE):
                ids = by_expression(line, vocabulary, merges, *how)
                if number in simpler:
                    cuts[name][number] = ids
                elif cuts[name][number] != ids:
                    sys.exit(f"{name}: the published expressions and llama.cpp differ on {line!r}")
    # One record for all names that agree.
    groups = []
    for name, lines in cuts.items():
        for group in groups:
            if group["ids"] == lines:
                group["names"].append(name)
                break
        else:
            groups.append({"names": [name], "from": "published" if name in published else "llama.cpp", "ids": lines})
    record = {"page": PAGE, "merges": merges, "tokens": vocabulary, "cuts": groups}
    (HERE / "cuts.json").write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{len(cuts)} names, {len(groups)} ways", file=sys.stderr)


if __name__ == "__main__":
    main()
