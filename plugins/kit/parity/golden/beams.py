#!/usr/bin/env python3
"""Records what transformers' beam search finds on a checkpoint, for `host parity` to replay.

    pip install torch==2.15.0 transformers==5.23.0 safetensors
    python beams.py DIR...          # writes DIR/golden/beams.json

Prompts are those of DIR/golden/cases.json. Random weights hardly ever stop by themselves, so the stop tokens are
taken from what the model says without any: then answers end at different lengths, and some beams end early.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

LONGEST = 14


def text_model(folder: Path):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.generation_config = GenerationConfig()  # nothing of the publisher's
    return model.eval()


@torch.no_grad()
def search(model, rows: list[list[int]], stop: list[int], beams: int, answers: int, **settings):
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    # The pad token fills up behind a stop token, and is told from an answer's own tokens by where it stands.
    found = model.generate(
        ids, attention_mask=mask, do_sample=False, num_beams=beams, num_return_sequences=answers, pad_token_id=0,
        eos_token_id=stop or None, max_new_tokens=LONGEST, output_scores=True,
        output_logits=True, return_dict_in_generate=True, **settings)
    replies = []
    if beams == 1:  # the likeliest token each time: the library keeps neither places nor a sum
        steps = torch.stack(found.logits, 1).log_softmax(-1)
        for sequence, likely in zip(found.sequences[:, width:].tolist(), steps):
            length = next((n for n, token in enumerate(sequence, 1) if token in stop), len(sequence))
            total = sum(float(likely[n, token]) for n, token in enumerate(sequence[:length]))
            replies.append({"tokens": sequence[:length], "score": total / length})
        return [[reply] for reply in replies]
    for sequence, indices, score in zip(found.sequences[:, width:], found.beam_indices, found.sequences_scores):
        length = int((indices >= 0).sum())
        replies.append({"tokens": sequence[:length].tolist(), "score": float(score)})
    return [replies[start:start + answers] for start in range(0, len(replies), answers)]


def record(folder: Path) -> None:
    model = text_model(folder)
    tensors = load_file(folder / "golden" / "golden.safetensors")
    names = [case["name"] for case in json.loads((folder / "golden" / "cases.json").read_text())["cases"]]
    prompts = {}
    for name in names:
        if f"{name}.pixel_values" in tensors or f"{name}.input_features" in tensors:
            continue
        ids, mask = tensors[f"{name}.input_ids"], tensors[f"{name}.attention_mask"]
        rows = [row[kept.bool()].tolist() for row, kept in zip(ids, mask)]
        if len(rows) > 1 or len(prompts) < 3:
            prompts[name] = rows
    cases = []
    for name, rows in prompts.items():
        # An end in the middle of the best answer, one at the end of another, and one near the beginning.
        free = search(model, rows, [], 3, 3)
        stop = sorted({free[0][0]["tokens"][6], free[-1][1]["tokens"][9], free[0][2]["tokens"][3]})
        for beams, penalty, extra in [(2, 1.0, {}), (3, 0.6, {}), (4, 2.0, {}), (4, 1.0, {"repetition_penalty": 1.3}),
                                      (3, 0.6, {"early_stopping": True}), (2, 0.0, {}),
                                      (4, 0.5, {"early_stopping": True}), (3, 2.0, {"early_stopping": "never"}),
                                      (3, 1.0, {"early_stopping": "never"}), (3, -1.0, {"early_stopping": "never"}),
                                      (3, 1.0, {"min_new_tokens": 4}), (1, 1.0, {"min_new_tokens": 2}),
                                      (1, 1.0, {"min_new_tokens": 8})]:
            settings = {"length_penalty": penalty, **extra}
            given = settings if beams > 1 else extra
            answers = search(model, rows, stop, beams, beams, **given)
            told = ", ".join(f"{key} {value}" for key, value in settings.items())
            cases.append({"name": f"{name}: {beams} beams, {told}", "beams": beams, "repetition_penalty": 1.0,
                          "max_new_tokens": LONGEST, "stop_tokens": stop, "prompts": rows, "answers": answers, **settings})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (folder / "golden" / "beams.json").write_text('{"cases": [\n' + lines + "\n]}\n")
    lengths = [len(answer["tokens"]) for case in cases for replies in case["answers"] for answer in replies]
    print(f"{folder}: {len(cases)} searches, answers of {min(lengths)} to {max(lengths)} tokens")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        record(Path(argument))
