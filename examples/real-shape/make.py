"""python make.py FOLDER: a whole checkpoint of Qwen2-Audio-7B's shape, 16.8 GB in four files, its weights random.

What it says is nonsense; what it takes to load, to hear and to answer is what the published one takes. Words and the
template come from another checkpoint's folder, of the demo if none is named (`--words`). Needs numpy, and no memory to
speak of: numbers go to the disk as they are drawn.
"""
import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np

DEMO = Path(__file__).resolve().parents[2] / "plugins/models/qwen2-audio/demo"
WORDS = ["tokenizer.json", "tokenizer_config.json", "chat_template.json", "generation_config.json", "preprocessor_config.json"]
SHARD = 5_000_000_000  # bytes
AT_A_TIME = 1 << 24  # values
DEVIATION = 0.02  # `initializer_range` of both halves

AUDIO = {"activation_function": "gelu", "d_model": 1280, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
         "encoder_layers": 32, "max_source_positions": 1500, "model_type": "qwen2_audio_encoder", "num_mel_bins": 128,
         "scale_embedding": False}
TEXT = {"hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11_008, "max_position_embeddings": 8192,
        "model_type": "qwen2", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "rms_norm_eps": 1e-05, "rope_theta": 10_000, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "vocab_size": 156_032}


def config(words: dict) -> dict:
    """As published, but for the numbers of tokens, which are those of the tokenizer."""
    ids = {name: words["text_config"][name] for name in ("bos_token_id", "eos_token_id") if name in words["text_config"]}
    return {"architectures": ["Qwen2AudioForConditionalGeneration"], "audio_config": AUDIO,
            "audio_token_index": words["audio_token_index"], "model_type": "qwen2_audio", "text_config": TEXT | ids,
            "torch_dtype": "bfloat16", "vocab_size": TEXT["vocab_size"]}


def tensors():
    """Name and shape of each, in the order of the layers."""
    def linear(name, outputs, inputs, bias=True):
        yield f"{name}.weight", (outputs, inputs)
        if bias:
            yield f"{name}.bias", (outputs,)

    def norm(name, width):
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)

    width, inner = AUDIO["d_model"], AUDIO["encoder_ffn_dim"]
    yield "audio_tower.conv1.weight", (width, AUDIO["num_mel_bins"], 3)
    yield "audio_tower.conv1.bias", (width,)
    yield "audio_tower.conv2.weight", (width, width, 3)
    yield "audio_tower.conv2.bias", (width,)
    yield "audio_tower.embed_positions.weight", (AUDIO["max_source_positions"], width)
    for index in range(AUDIO["encoder_layers"]):
        layer = f"audio_tower.layers.{index}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{layer}.self_attn.{name}", width, width, bias=name != "k_proj")
        yield from norm(f"{layer}.self_attn_layer_norm", width)
        yield from linear(f"{layer}.fc1", inner, width)
        yield from linear(f"{layer}.fc2", width, inner)
        yield from norm(f"{layer}.final_layer_norm", width)
    yield from norm("audio_tower.layer_norm", width)

    hidden, inner, rows = TEXT["hidden_size"], TEXT["intermediate_size"], TEXT["vocab_size"]
    yield from linear("multi_modal_projector.linear", hidden, width)
    yield "language_model.model.embed_tokens.weight", (rows, hidden)
    for index in range(TEXT["num_hidden_layers"]):
        layer = f"language_model.model.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield from linear(f"{layer}.self_attn.{name}", hidden, hidden, bias=name != "o_proj")
        yield from linear(f"{layer}.mlp.gate_proj", inner, hidden, bias=False)
        yield from linear(f"{layer}.mlp.up_proj", inner, hidden, bias=False)
        yield from linear(f"{layer}.mlp.down_proj", hidden, inner, bias=False)
        yield f"{layer}.input_layernorm.weight", (hidden,)
        yield f"{layer}.post_attention_layernorm.weight", (hidden,)
    yield "language_model.model.norm.weight", (hidden,)
    yield from linear("language_model.lm_head", rows, hidden, bias=False)


def in_shards():
    shards, room = [[]], SHARD
    for name, shape in tensors():
        size = 2 * math.prod(shape)
        if size > room and shards[-1]:
            shards.append([])
            room = SHARD
        shards[-1].append((name, shape, size))
        room -= size
    return shards


def bf16(values: np.ndarray) -> bytes:
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()  # the lower half of each is cut off


def write(path: Path, shard: list, random: np.random.Generator) -> None:
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, size in shard:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape, size in shard:
            middle = 1 if "norm" in name and name.endswith(".weight") else 0
            for start in range(0, size // 2, AT_A_TIME):
                values = random.standard_normal(min(AT_A_TIME, size // 2 - start), dtype=np.float32)
                file.write(bf16(values * np.float32(DEVIATION) + np.float32(middle)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--words", type=Path, default=DEMO, help="a checkpoint of Qwen2-Audio, however small")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True)
    for name in WORDS:
        shutil.copy(chosen.words / name, chosen.folder)
    words = json.loads((chosen.words / "config.json").read_text())
    (chosen.folder / "config.json").write_text(json.dumps(config(words), indent=1) + "\n")
    random, places, shards = np.random.default_rng(chosen.seed), {}, in_shards()
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        places |= {tensor: name for tensor, _, _ in shard}
        write(chosen.folder / name, shard, random)
        print(name, flush=True)
    total = sum(size for shard in shards for _, _, size in shard)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (chosen.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
