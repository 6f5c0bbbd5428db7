"""Shapes of Qwen3, what they weigh, and checkpoints of them whose weights are random. Standard library only."""
import json
import random
import shutil
import struct
from pathlib import Path

import card
import work

# `wide` is the smallest that has blocks of 256 values, and as many words as the demo's tokenizer.
SHAPES = work.SHAPES | {"wide": (256, 512, 2, 4, 2, 64, 512, True)}
# Bytes of a value: of the layers, and of the head, which stays q8_0.
BYTES = {"bf16": (2, 2), "fp32": (4, 4), "q8_0": (34 / 32, 34 / 32), "q4_k": (144 / 256, 34 / 32)}


def in_layers(shape):
    """Values of all layers' matrices."""
    hidden, inner, layers, heads, keys, size, _, _ = SHAPES[shape]
    return layers * (hidden * size * (2 * heads + 2 * keys) + 3 * hidden * inner)


def read_for_a_token(shape, kind):
    """Bytes of weights that are read to write a token, or one of each of several answers."""
    hidden, vocabulary = SHAPES[shape][0], SHAPES[shape][6]
    layers, head = BYTES[kind]
    return in_layers(shape) * layers + hidden * vocabulary * head


def operations_of_a_prompt(shape, tokens):
    """Multiplications and additions for a prompt, and for the logits behind its last token. A token attends to half of them."""
    hidden, _, layers, heads, _, size, vocabulary, _ = SHAPES[shape]
    return 2 * in_layers(shape) * tokens + 2 * layers * heads * size * tokens**2 + 2 * hidden * vocabulary


def tensors(shape):
    """Name and shape of each."""
    hidden, inner, layers, heads, keys, size, vocabulary, tied = SHAPES[shape]
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (hidden,)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "self_attn.q_norm.weight", (size,)
        yield at + "self_attn.k_norm.weight", (size,)
        yield at + "self_attn.q_proj.weight", (heads * size, hidden)
        yield at + "self_attn.k_proj.weight", (keys * size, hidden)
        yield at + "self_attn.v_proj.weight", (keys * size, hidden)
        yield at + "self_attn.o_proj.weight", (hidden, heads * size)
        yield at + "mlp.gate_proj.weight", (inner, hidden)
        yield at + "mlp.up_proj.weight", (inner, hidden)
        yield at + "mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not tied:
        yield "lm_head.weight", (vocabulary, hidden)


def write(folder, shape, words=None):
    """A folder with random weights in bf16, and the tokenizer of another folder if that is named."""
    folder.mkdir(parents=True)
    hidden, inner, layers, heads, keys, size, vocabulary, tied = SHAPES[shape]
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keys, "head_dim": size,
        "vocab_size": vocabulary, "tie_word_embeddings": tied, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000,
        "max_position_embeddings": 40_960, "hidden_act": "silu", "attention_bias": False, "torch_dtype": "bfloat16",
    }))
    for file in Path(words).glob("*") if words else []:
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, folder)
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, sides in tensors(shape):
        start, end = end, end + 2 * count(sides)
        header[name] = {"dtype": "BF16", "shape": sides, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random.seed(0)
    # Some numbers over and over, each tensor from another one on: speed asks for no more, and drawing them takes long.
    drawn = card.bf16([random.gauss(0, hidden**-0.5) for _ in range(1 << 18)])
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, sides in tensors(shape):
            left = 2 * count(sides)
            if len(sides) == 1:
                out.write(card.bf16([1.0]) * (left // 2))
                continue
            at = 2 * random.randrange(1 << 18)
            while left > 0:
                some = drawn[at:at + left]
                out.write(some)
                at, left = 0, left - len(some)


def count(sides):
    return sides[0] if len(sides) == 1 else sides[0] * sides[1]
