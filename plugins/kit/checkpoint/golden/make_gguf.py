#!/usr/bin/env python3
"""Writes a checkpoint folder of a text model as one GGUF file, by the package that llama.cpp's own converter uses.

    pip install torch==2.15.0 gguf safetensors
    python make_gguf.py FOLDER FILE.gguf [f32|f16|bf16|q8_0]

Norms and biases stay fp32, as in published files. What the converter does to tensors is done here: the rows of
Llama's queries and keys are laid so that the halves that turn together alternate, and Gemma's norms have one added.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

CUTS = {"qwen2": "qwen2", "qwen3": "qwen2", "llama": "qwen2"}  # how the tiny tokenizers cut text, by class


def interleave(weight: torch.Tensor, heads: int) -> torch.Tensor:
    rows = weight.shape[0] // heads
    return weight.reshape(heads, 2, rows // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict, rows: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    model, added = tokenizer["model"], {token["id"]: token for token in tokenizer["added_tokens"]}
    tokens = {place: piece for piece, place in model["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    sentence = bool(model.get("byte_fallback"))
    kinds = []
    for place in range(rows):
        if place not in tokens:
            tokens[place] = f"[PAD{place}]"
            kinds.append(gguf.TokenType.UNUSED)
        elif place in added:
            control = added[place]["special"]
            unknown = tokens[place] == model.get("unk_token")
            kinds.append(gguf.TokenType.UNKNOWN if unknown else
                         gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED)
        elif sentence and len(tokens[place]) == 6 and tokens[place].startswith("<0x"):
            kinds.append(gguf.TokenType.BYTE)
        else:
            kinds.append(gguf.TokenType.NORMAL)
    writer.add_token_list([tokens[place] for place in range(rows)])
    writer.add_token_types(kinds)
    if sentence:
        # A piece's score is its rank among the merges; the tiny tokenizers have them from a vocabulary like that.
        ranks = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge if isinstance(merge, list) else merge.split(" ")
            ranks.setdefault(left + right, rank)
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([-float(ranks.get(tokens[place], len(ranks))) for place in range(rows)])
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(True)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(CUTS[config["model_type"]])
        writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
        writer.add_add_bos_token(False)
    ids = {token["content"]: place for place, token in added.items()}
    for name, add in (("bos_token", writer.add_bos_token_id), ("eos_token", writer.add_eos_token_id),
                      ("pad_token", writer.add_pad_token_id)):
        token = settings.get(name)
        token = token["content"] if isinstance(token, dict) else token
        if token in ids:
            add(ids[token])
    if settings.get("chat_template"):
        writer.add_chat_template(settings["chat_template"])


def main(folder: Path, out: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    name = {"gemma3_text": "gemma3"}.get(config["model_type"], config["model_type"])
    state = {}
    for path in sorted(folder.glob("*.safetensors")):
        state |= load_file(path)
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    keys = config["num_key_value_heads"]
    writer = gguf.GGUFWriter(out, name)
    writer.add_name(folder.name)
    writer.add_block_count(layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    head = config.get("head_dim", config["hidden_size"] // heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    if name == "gemma3":
        writer.add_sliding_window(config["sliding_window"])
        # Published files say neither; their readers know the family's own.
        writer.add_uint32("gemma3.attention.sliding_window_pattern", config["sliding_window_pattern"])
        writer.add_float32("gemma3.attention.scale", config["query_pre_attn_scalar"] ** -0.5)
    scaling = config.get("rope_scaling") or {}
    kind_of_rope = scaling.get("rope_type", scaling.get("type"))
    if kind_of_rope in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind_of_rope))
        writer.add_rope_scaling_factor(scaling["factor"])
        if "original_max_position_embeddings" in scaling:
            writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    elif kind_of_rope == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        trained, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        factors = []
        for frequency in 1.0 / config["rope_theta"] ** (torch.arange(0, head, 2, dtype=torch.float32) / head):
            length = 2 * np.pi / frequency
            smooth = (trained / length - low) / (high - low)
            factors.append(1.0 if length < trained / high else factor if length > trained / low else
                           1.0 / ((1 - smooth) / factor + smooth))
        writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    write_tokenizer(writer, folder, config, state["model.embed_tokens.weight"].shape[0])
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, name.upper()), layers)
    wanted = getattr(gguf.GGMLQuantizationType, kind.upper())
    for old, value in sorted(state.items()):
        value = value.float()
        if name == "llama" and old.endswith(("q_proj.weight", "k_proj.weight")):
            value = interleave(value, heads if "q_proj" in old else keys)
        if name == "gemma3" and old.endswith("norm.weight"):
            value = value + 1
        quant = gguf.GGMLQuantizationType.F32 if value.ndim == 1 else wanted
        new = names.get_name(old, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(new, gguf.quants.quantize(value.numpy(), quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or ["f32"])[0])
