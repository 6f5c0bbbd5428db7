#!/usr/bin/env python3
"""Trains two small SentencePiece 0.2 models and records how they cut texts: pip install sentencepiece; python sentencepiece.py

`bpe/` is of Llama's kind, `unigram/` of T5's. `ids.json` has the texts, the ids of each and what they are turned back to.
"""
import io
import json
import sys
from pathlib import Path

sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
import sentencepiece  # noqa: E402  (its own name is this file's)

HERE = Path(__file__).parent
CORPUS = [
    "USER: Please describe the audio.\nASSISTANT: A dog barks twice, then a door is closed.",
    "USER: Recognize the speech and give me the transcription.\nASSISTANT: the quick brown fox jumps over the lazy dog",
    "What is the emotion of the speaker?  In 1984, 365 days; 0.5 + 1.25 = 1.75. Größe, naïve, café, 你好.",
    "banana bandana anaconda aaaa aaaaa abababab mississippi", "    indented\n\n\tcode  and  spaces   ",
]
KINDS = {
    "bpe": dict(model_type="bpe", vocab_size=420, byte_fallback=True, normalization_rule_name="identity",
                split_digits=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
    "unigram": dict(model_type="unigram", vocab_size=120, normalization_rule_name="nmt_nfkc"),
}
TEXTS = [
    "", " ", "   ", "a", "Hello, world!", "  two  spaces\n\n\tand a tab ", "It's 2024; naïve café 你好🙂", "x=1234567*y+0.5",
    "don't WE'LL stop", "é é", "aaaaaaaaaaaaaaaa", "banana bananas anabanana", "abababababab mississippissippi",
    "USER: <Speech>", "</Speech> What is the emotion?\nASSISTANT:", "\u2581already\u2581", "\x00\x07\x7f\u200b\ufeff",
    "ﬁne ① ｆｕｌｌ", "<unknown> <0x41>", "tail ", "\n", "🙂🙂 𝔘𝔫𝔦 ᚠ", "the" * 40,
]


def main() -> None:
    recorded = {}
    for name, options in KINDS.items():
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=made, num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
            character_coverage=0.98, minloglevel=2, hard_vocab_limit=False, **options)
        (HERE / name).mkdir(exist_ok=True)
        (HERE / name / "tokenizer.model").write_bytes(made.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
        ids = [model.encode(text) for text in TEXTS]
        recorded[name] = [{"text": text, "ids": cut, "decoded": model.decode(cut)} for text, cut in zip(TEXTS, ids)]
    (HERE / "ids.json").write_text(json.dumps(recorded, indent=0) + "\n")


if __name__ == "__main__":
    main()
