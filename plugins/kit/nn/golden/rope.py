#!/usr/bin/env python3
"""Records the reference's rotary frequencies for every scaling, in rope.json beside this file.

    pip install torch==2.15.0 transformers==5.23.0
    python rope.py
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}  # as Qwen2.5 has it
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}  # as Llama 3.1 has it
CASES = [
    (128, 1e6, None),
    (64, 1e4, {"type": "linear", "factor": 8.0}),
    (128, 1e6, YARN),
    (64, 1e4, YARN),
    (80, 1e6, YARN | {"truncate": False}),
    (128, 1e6, YARN | {"attention_factor": 1.25}),
    (128, 1e4, YARN | {"factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7}),
    (128, 1e6, YARN | {"beta_fast": 16.0, "beta_slow": 2.0}),
    (16, 1e3, YARN | {"original_max_position_embeddings": 64}),
    (8, 1e6, YARN | {"factor": 1.0, "original_max_position_embeddings": 100}),
    (128, 5e5, LLAMA3),
    (64, 5e5, LLAMA3 | {"factor": 32.0}),
    (16, 1e4, LLAMA3 | {"original_max_position_embeddings": 64}),
]


def record(head_size: int, theta: float, scaling: dict | None) -> dict:
    published = {"rope_theta": theta, "rope_scaling": scaling}
    config = LlamaConfig(head_dim=head_size, max_position_embeddings=131072, **copy.deepcopy(published))
    rotary = LlamaRotaryEmbedding(config)
    return {"head_size": head_size, "config": published, "attention_factor": rotary.attention_scaling,
            "frequencies": [float(f"{x:.9g}") for x in rotary.inv_freq.tolist()]}


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(record(*case)) for case in CASES)
    Path(__file__).with_name("rope.json").write_text(f"[\n{lines}\n]\n")
