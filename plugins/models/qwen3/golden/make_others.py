#!/usr/bin/env python3
"""Makes the checkpoints in `others/`: the classes that share the decoder with Qwen and Llama, each with recorded logits and a
LoRA over all of its linear layers.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors tokenizers
    python make_others.py                                    # those that are committed
    python make_others.py --out DIR --seed 70 --larger       # others: `QWEN3_OTHERS=DIR cargo test -p qwen3`

The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from make import HERE, PLAIN, make_checkpoint, record

sys.path.insert(0, str(HERE.parents[2] / "kit/nn/golden"))
import lora  # noqa: E402

# Fields of Qwen3's configs that others do not have.
QWEN = ("attention_bias", "head_dim", "max_window_layers", "rope_scaling", "sliding_window", "use_sliding_window")

# What each is about: a class by its `model_type`, its architecture, and the fields on which mistakes show.
OTHERS: dict[str, tuple[str, dict]] = {
    # A window in all layers, heads of another size than their share.
    "mistral": ("MistralForCausalLM", {"sliding_window": 9, "head_dim": 16, "tie_word_embeddings": False}),
    # A layer that does not know positions.
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 3, "no_rope_layers": [1, 0, 1], "rope_theta": 5000000.0}),
    # Fused projections, of a head a part that turns, and factors for each pair of channels.
    "phi3": ("Phi3ForCausalLM", {
        "sliding_window": 11, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 4096, "rope_theta": 10000.0,
        "max_position_embeddings": 131072,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.25, 2.5], "long_factor": [1.5, 4.0, 30.0]}}),
    # Norms behind both halves and none in front; queries and keys are normalised over all heads.
    "olmo2": ("Olmo2ForCausalLM", {"rope_theta": 500000, "tie_word_embeddings": False}),
    # Four multipliers.
    "granite": ("GraniteForCausalLM", {"embedding_multiplier": 12.0, "attention_multiplier": 0.2, "residual_multiplier": 0.22,
                                       "logits_scaling": 4.0, "attention_bias": True, "mlp_bias": True, "rope_theta": 10000.0}),
    # Half of a head turns, by neighbours; biases in front of attention.
    "glm": ("GlmForCausalLM", {"head_dim": 16, "partial_rotary_factor": 0.5, "attention_bias": True, "rope_theta": 10000.0,
                               "tie_word_embeddings": False}),
    # The same with norms behind both halves as well.
    "glm4": ("Glm4ForCausalLM", {"head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": True, "rope_theta": 10000.0,
                                 "tie_word_embeddings": False}),
}
# Longer than any window above, and no longer: the logits of every token are recorded.
SHORT = [
    [{"role": "user", "content": "Which is heavier?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1, 2, \u00bd\u2026"}],
]
# Twice the width, another number of layers and of heads.
LARGER = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 96, "num_hidden_layers": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "others")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--larger", action="store_true")
    parser.add_argument("--only", choices=OTHERS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for number, (name, (architecture, fields)) in enumerate(OTHERS.items()):
        if arguments.only not in (None, name):
            continue
        fields = {"architectures": [architecture], "model_type": name, "pad_token_id": 0} | fields
        if arguments.larger:
            fields |= LARGER | ({"no_rope_layers": [1, 1, 0, 0]} if "no_rope_layers" in fields else {})
        folder = arguments.out / name
        without = tuple(field for field in QWEN if field not in fields)
        parts = make_checkpoint(folder, arguments.seed + number, torch.float32, rows=288, template=PLAIN, without=without,
                                **fields)
        record(folder, *parts, PLAIN, SHORT)
        sys.argv = ["lora.py", str(folder), "--like", "all", "--seed", str(arguments.seed + number)]
        lora.main()
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)  # the writer makes them its owner's alone


if __name__ == "__main__":
    main()
