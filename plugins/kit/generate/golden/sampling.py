#!/usr/bin/env python3
"""Records which tokens the reference's processors leave of some logits, and how likely, in sampling.json beside this file.

    pip install torch==2.15.0 transformers==5.23.0 safetensors
    python sampling.py

The processors are those that `generate` would put together, in its order. One row of logits is what a checkpoint of
qwen3's said; the others are made for ties and for both sides of zero. Which tokens of a tie stay in a nucleus is
whatever the library's sort made of them, which is not a stable one: how many do is what counts.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

HERE = Path(__file__).resolve().parent
TIED = HERE.parents[2] / "models" / "qwen3" / "golden" / "tied"

MADE = {
    "small": [0.0, 3.0, 1.0, 2.0, -1.0, 3.0, -4.5, 0.5],
    "ties": [1.0, 2.0, 2.0, 1.0, 2.0, 0.0, 1.0, -1.0, 1.0, 0.0],
    "even": [0.25] * 10,
    "many even": [0.0] * 200,  # more than are sorted at once
    "zeros": [-0.0, 0.0, -1.0, 0.0, -0.0, -2.0],
    "below zero": [-8.0, -0.5, -3.0, -0.25, -6.0, -2.0, -1.0, -4.0],
    "far apart": [60.0, -80.0, 59.0, 0.0, 58.5, -20.0, 57.0, 30.0],
}
# Tokens of the prompt, and of the answer so far.
SEEN = {"small": [1, 6, 1], "ties": [4, 8, 9, 9], "zeros": [0, 2], "below zero": [3, 1, 7], "far apart": [0, 1]}

SETTINGS = [
    {}, {"temperature": 0.6}, {"temperature": 1.7}, {"temperature": 0.01}, {"temperature": 100.0},
    {"top_k": 1}, {"top_k": 2}, {"top_k": 3}, {"top_k": 5}, {"top_k": 100000},
    {"top_p": 1.0}, {"top_p": 0.0}, {"top_p": 1e-6}, {"top_p": 0.3}, {"top_p": 0.5}, {"top_p": 0.7}, {"top_p": 0.9},
    {"top_p": 0.95}, {"top_p": 0.999999},
    {"min_p": 0.0}, {"min_p": 0.05}, {"min_p": 0.2}, {"min_p": 1.0}, {"min_p": 0.1, "temperature": 0.05},
    {"min_p": 0.3, "temperature": 3.0},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 0.7}, {"repetition_penalty": 5.0, "top_k": 3},
    {"top_k": 3, "top_p": 0.8}, {"top_k": 4, "top_p": 0.5, "temperature": 2.0}, {"top_k": 20, "top_p": 0.95, "temperature": 0.6},
    {"top_p": 0.8, "min_p": 0.1}, {"top_k": 2, "min_p": 0.9},
    {"repetition_penalty": 1.2, "temperature": 0.7, "top_k": 6, "top_p": 0.9, "min_p": 0.02},
    {"repetition_penalty": 1.5, "temperature": 1.5, "top_k": 5, "top_p": 0.85, "min_p": 0.25},
]


def shortest(value: float) -> float:
    return float(f"{value:.9g}")  # as many digits as tell one fp32 from the next


@torch.no_grad()
def process(model, logits: list[float], seen: list[int], settings: dict) -> torch.Tensor:
    # The library takes the 50 best where nothing is said of it, which is no wish of anybody's.
    seen = seen or [len(logits)]  # no token of these
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **settings})
    model._prepare_special_tokens(config, device="cpu")
    processors = model._get_logits_processor(
        generation_config=config, input_ids_seq_length=len(seen), encoder_input_ids=None, prefix_allowed_tokens_fn=None,
        logits_processor=[], device="cpu", model_kwargs={"attention_mask": torch.ones(1, len(seen))})
    ids = torch.tensor([seen])
    return processors(ids, torch.tensor([logits]))[0]


def main() -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(TIED, dtype=torch.float32)
    model.generation_config = GenerationConfig()
    tensors = load_file(TIED / "golden" / "golden.safetensors")
    rows = dict(MADE)
    rows["recorded"] = [shortest(value) for value in tensors["talk1.greedy_logits"][0, 3].tolist()]
    seen = SEEN | {"recorded": tensors["talk1.input_ids"][0].tolist()}
    cases = []
    for (name, logits), settings in itertools.product(rows.items(), SETTINGS):
        if name == "many even" and "top_p" not in settings:
            continue
        processed = process(model, logits, seen.get(name, []), settings)
        shares = processed.double().softmax(-1)
        kept = [token for token, share in enumerate(shares) if share > 1.2e-38]  # below, fp32 has no numbers to draw by
        # Of many tokens, the likeliest say enough of how they are shared out.
        likeliest = [float(f"{share:.7g}") for share in shares.sort(descending=True).values[:6] if share > 1.2e-38]
        cases.append({"logits": name, "settings": settings, "shares": likeliest,
                      "kept": kept if len(kept) < len(logits) else "all"})
    lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    text = '{"logits": {\n' + ",\n".join(lines) + '},\n"seen": ' + json.dumps(seen) + ',\n"cases": [\n'
    text += ",\n".join(json.dumps(case) for case in cases) + "\n]}\n"
    (HERE / "sampling.json").write_text(text)
    print(f"{len(cases)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
