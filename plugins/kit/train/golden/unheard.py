#!/usr/bin/env python3
"""Records short training runs in which only some steps hear a clip, over the checkpoint `qwen2audio`: in its folder
`unheard`.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors tokenizers
    python unheard.py                                # those that are committed
    python unheard.py --out DIR --seed 70            # others

Where no batch of a step has a clip, PyTorch has no gradient of the audio tower and its projector, and `torch.optim.AdamW`
leaves them as they are: no decay, the same moments, and no step counted. Where the only clip stands in a row from which
nothing is learnt, there is a gradient of zeros, and they are updated. A run is computed in float64 over the stored values
by torch's own AdamW. Beside it transformers' Trainer learns the same rows in float32: the script fails unless it counts
the same steps for each parameter and is the same run otherwise. The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import math
import wave
from pathlib import Path

import torch
from transformers import Qwen2AudioForConditionalGeneration, Trainer, TrainingArguments, WhisperFeatureExtractor

from runs import BETAS, CLIP, DECAY, EPS, HERE, NO_DECAY, Runs, begin, emptied, padded, summed_loss

BASE = HERE / "qwen2audio"
PAD, AUDIO, BEGIN, END = 498, 501, 502, 503
# The rows of each step: `c` has a clip, `t` has none, `n` has a clip and nothing that is learnt.
STEPS = ["tcct", "tttt", "ctct", "tttt", "tttt", "tntt", "tttt", "c"]
HEARD = [number for number, rows in enumerate(STEPS) if set(rows) != {"t"}]
HEARING = ("audio_tower.", "multi_modal_projector.")
CASES = {
    # The factors B begin at zero, so that the first gradient of A is exactly zero: A is updated all the same.
    "lora": {"learning_rate": 5e-3, "lora": {
        "r": 2, "lora_alpha": 6, "target_modules": ["out_proj", "fc2", "linear", "o_proj"]}, "frozen": []},
    "full": {"learning_rate": 1e-3, "lora": None, "frozen": ["language_model.model.layers", "embed_tokens", "lm_head", "conv1"]},
}


def hears(name: str) -> bool:
    return any(part in name for part in HEARING)


def check_counts(optimiser: torch.optim.Optimizer, learnt: dict[str, torch.nn.Parameter]) -> None:
    for name, value in learnt.items():
        steps, due = int(optimiser.state[value]["step"]), len(HEARD if hears(name) else STEPS)
        assert steps == due, f"{name} was updated in {steps} steps, expected {due}"


class Unheard(Runs):
    """With few words and one short clip."""

    warmup = 1
    names = {"model.language_model.": "language_model.model.", "model.audio_tower.": "audio_tower.",
             "model.multi_modal_projector.": "multi_modal_projector.", "lm_head.": "language_model.lm_head."}
    # The class freezes the table of positions; release 4 keeps that while loading, release 5 does not.
    unused = ["embed_positions"]

    def __init__(self, out: Path, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        samples = 1280  # 80 ms: four steps of the encoder, two tokens
        times = torch.arange(samples) / 16000
        sound = 0.3 * torch.sin(2 * math.pi * 440 * times) + 0.1 * torch.randn(samples, generator=random)
        pcm = (sound.clamp(-1, 1) * 32767).round().to(torch.int16)
        with wave.open(str(out / "clip.wav"), "wb") as file:
            file.setparams((1, 2, 16000, samples, "NONE", ""))
            file.writeframes(pcm.numpy().tobytes())
        extractor = WhisperFeatureExtractor.from_pretrained(BASE)
        self.heard = extractor(
            [(pcm.float() / 32768).numpy()], sampling_rate=16000, padding="max_length", return_attention_mask=True,
            return_tensors="pt")
        self.words = (torch.randperm(240, generator=random)[:16] + 8).tolist()
        self.random = random
        rows = [self.row(kind) for kind in "".join(STEPS)]
        super().__init__(BASE, seed, rows, [self.row(kind, length=3) for kind in "ctc"], out)

    def row(self, kind: str, length: int | None = None) -> dict:
        length = length or int(torch.randint(4, 9, (), generator=self.random))
        ids = [self.words[place] for place in torch.randint(len(self.words), (length,), generator=self.random).tolist()]
        labels = [-100 if kind == "n" else token for token in ids]
        head = [] if kind == "t" else [BEGIN, AUDIO, AUDIO, END]
        row = {"input_ids": head + ids, "labels": [-100] * len(head) + labels, "attention_mask": [1] * (len(head) + length)}
        return row if kind == "t" else row | {"audio": ["clip.wav"]}

    def batch_of(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        made, clips = padded(rows, PAD), sum("audio" in row for row in rows)
        if clips:
            made |= {"input_features": self.heard["input_features"].repeat(clips, 1, 1),
                     "feature_attention_mask": self.heard["attention_mask"].repeat(clips, 1)}
        return made

    def load(self) -> torch.nn.Module:
        return Qwen2AudioForConditionalGeneration.from_pretrained(BASE, attn_implementation="eager", dtype=torch.float32)

    def begin_updates(self, learnt: dict[str, torch.nn.Parameter]) -> None:
        free = [p for n, p in learnt.items() if NO_DECAY.search(n.lower())]
        decayed = [p for n, p in learnt.items() if not NO_DECAY.search(n.lower())]
        groups = [{"params": decayed, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, eps=EPS)

    def update(self, learnt: dict[str, torch.nn.Parameter], step: int, rate: float, norm: float) -> None:
        for name, value in learnt.items():
            assert (value.grad is None) == (hears(name) and step not in HEARD), f"step {step}, {name}"
        torch.nn.utils.clip_grad_norm_(learnt.values(), CLIP)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        if step + 1 == self.steps:
            check_counts(self.optimiser, learnt)

    def trainer(self, model: torch.nn.Module, arguments: TrainingArguments) -> Trainer:
        # Qwen2-Audio's class ignores the count of learnt tokens, so its own loss would be another.
        def loss_of(out, labels, num_items_in_batch):
            return summed_loss(out.logits, labels) / num_items_in_batch

        return Trainer(model, arguments, train_dataset=self.rows, data_collator=self.batch_of, compute_loss_func=loss_of)

    def check_trainer(self, trainer: Trainer, learnt: dict[str, torch.nn.Parameter]) -> None:
        check_counts(trainer.optimizer, learnt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BASE / "unheard")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    begin()
    Unheard(emptied(arguments.out), arguments.seed).record("qwen2audio", CASES, heard=HEARD)


if __name__ == "__main__":
    main()
