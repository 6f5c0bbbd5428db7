#!/usr/bin/env python3
"""Writes `bpe/tokenizer.model` as the vocabulary of a GGUF file, as llama.cpp's converter does: bpe.gguf.

    pip install gguf sentencepiece
    python gguf.py
"""

import sys
from pathlib import Path

sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
import gguf  # noqa: E402  (its own name is this file's)
import sentencepiece  # noqa: E402

HERE = Path(__file__).parent


def kind(model: sentencepiece.SentencePieceProcessor, piece: int) -> gguf.TokenType:
    if model.is_unknown(piece):
        return gguf.TokenType.UNKNOWN
    if model.is_control(piece):
        return gguf.TokenType.CONTROL
    return gguf.TokenType.BYTE if model.is_byte(piece) else gguf.TokenType.NORMAL


def main() -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "bpe" / "tokenizer.model"))
    pieces = range(model.vocab_size())
    writer = gguf.GGUFWriter(HERE / "bpe.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([model.id_to_piece(piece) for piece in pieces])
    writer.add_token_scores([model.get_score(piece) for piece in pieces])
    writer.add_token_types([kind(model, piece) for piece in pieces])
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}{{ eos_token }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
