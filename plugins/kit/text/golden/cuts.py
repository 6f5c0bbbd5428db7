"""What a page of hard text becomes, cut in each of the ways that GGUF files name: `cuts.json`.

    python cuts.py [--published DIR ...]

Made once with llama-cpp-python 0.3.36 (`Llama(vocab_only=True)`) and tokenizers 0.23. For each name the script writes a
GGUF file of a vocabulary alone and records what llama.cpp makes of the page. The vocabulary was learnt from the page
without cutting it, so a pair is merged across every place where a way doesn't cut.

Where a tokenizer's published `tokenizer.json` is at hand (`--published NAME=FILE`), its own pre-tokenizer over the same
vocabulary is recorded instead, since that is what models learnt with; lines where llama.cpp differs are printed.
The llama.cpp in xllamacpp 2026.10.11549 cuts every recorded line alike, but for four lines of `qwen2` and `gpt-4o` whose record is
the published tokenizer's.
llama.cpp's expressions for a few ways are simpler than the published ones that they stand for. Those lines are
left out of the record, and printed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path = [path for path in sys.path if Path(path).resolve() != HERE]  # beside this script lies another gguf.py
import gguf  # noqa: E402

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

MARKS = [13, 15, 18]
# Lines, by name, on which llama.cpp does not do what the expression says that it quotes of the published tokenizer.
SIMPLER = {
    # It has no class of marks here, and no normal form (NFC).
    "tekken": MARKS, "deepseek-r1-qwen": [18], "megrez": [18], "qwen35": [18],
    # It takes some letters for what they are not where it translates classes (`eBay`, syllables of Hangul).
    "tiny_aya": [6, 12], "cohere2moe": [6, 12], "youtu": [6],
    # Blanks beyond ASCII in front of a word.
    "deepseek-llm": [21], "deepseek-coder": [21],
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
    from llama_cpp import Llama

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(vocabulary)
        writer.add_token_types([gguf.TokenType.NORMAL] * len(vocabulary))
        writer.add_token_merges(merges)
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_add_bos_token(False)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        model = Llama(str(path), vocab_only=True, verbose=False)
        return [model.tokenize(line.encode(), add_bos=False, special=False) for line in PAGE]


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
        for number in SIMPLER.get(name, []):
            cuts[name][number] = None
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
