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
import json
import math
import shutil
import tempfile
import wave
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Qwen2AudioForConditionalGeneration, Trainer, TrainingArguments, WhisperFeatureExtractor
from transformers.trainer_callback import PrinterCallback

import make
from make import ACCUMULATION, BATCH, BETAS, CLIP, DECAY, EPS, NO_DECAY, counted, length_of, stored_name, summed_loss

BASE = make.HERE / "qwen2audio"
PAD, AUDIO, BEGIN, END = 498, 501, 502, 503
# The rows of each step: `c` has a clip, `t` has none, `n` has a clip and nothing that is learnt.
STEPS = ["tcct", "tttt", "ctct", "tttt", "tttt", "tntt", "tttt", "c"]
WARMUP_STEPS = 1
HEARD = [number for number, rows in enumerate(STEPS) if set(rows) != {"t"}]
HEARING = ("audio_tower.", "multi_modal_projector.")
CASES = {
    # The factors B begin at zero, so that the first gradient of A is exactly zero: A is updated all the same.
    "lora": {"learning_rate": 5e-3, "lora": {
        "r": 2, "lora_alpha": 6, "target_modules": ["out_proj", "fc2", "linear", "o_proj"]}, "frozen": []},
    "full": {"learning_rate": 1e-3, "lora": None, "frozen": ["language_model.model.layers", "embed_tokens", "lm_head", "conv1"]},
}


def published(name: str) -> str:
    """The name in the checkpoint of a parameter: the classes were renamed since it was published."""
    renamed = {"model.language_model.": "language_model.model.", "model.audio_tower.": "audio_tower.",
               "model.multi_modal_projector.": "multi_modal_projector.", "lm_head.": "language_model.lm_head."}
    for now, then in renamed.items():
        if name.startswith(now):
            return then + name[len(now):]
    return stored_name(name)


class Rows:
    """Few words, short clips, and how rows become batches."""

    def __init__(self, folder: Path, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        samples = 1280  # 80 ms: four steps of the encoder, two tokens
        times = torch.arange(samples) / 16000
        sound = 0.3 * torch.sin(2 * math.pi * 440 * times) + 0.1 * torch.randn(samples, generator=random)
        pcm = (sound.clamp(-1, 1) * 32767).round().to(torch.int16)
        with wave.open(str(folder / "clip.wav"), "wb") as file:
            file.setparams((1, 2, 16000, samples, "NONE", ""))
            file.writeframes(pcm.numpy().tobytes())
        extractor = WhisperFeatureExtractor.from_pretrained(BASE)
        self.heard = extractor(
            [(pcm.float() / 32768).numpy()], sampling_rate=16000, padding="max_length", return_attention_mask=True,
            return_tensors="pt")
        self.words = (torch.randperm(240, generator=random)[:16] + 8).tolist()
        self.random = random
        self.learnt = [self.row(kind) for kind in "".join(STEPS)]
        self.held_out = [self.row(kind, length=3) for kind in "ctc"]

    def row(self, kind: str, length: int | None = None) -> dict:
        length = length or int(torch.randint(4, 9, (), generator=self.random))
        ids = [self.words[place] for place in torch.randint(len(self.words), (length,), generator=self.random).tolist()]
        labels = [-100 if kind == "n" else token for token in ids]
        head = [] if kind == "t" else [BEGIN, AUDIO, AUDIO, END]
        row = {"input_ids": head + ids, "labels": [-100] * len(head) + labels, "attention_mask": [1] * (len(head) + length)}
        return row if kind == "t" else row | {"audio": ["clip.wav"]}

    def batch(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        fills = {"input_ids": PAD, "labels": -100, "attention_mask": 0}
        made = {key: torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows]) for key, fill in fills.items()}
        clips = sum("audio" in row for row in rows)
        if clips:
            made |= {"input_features": self.heard["input_features"].repeat(clips, 1, 1),
                     "feature_attention_mask": self.heard["attention_mask"].repeat(clips, 1)}
        return made

    def batches(self) -> list[dict[str, torch.Tensor]]:
        return [self.batch(self.learnt[at:at + BATCH]) for at in range(0, len(self.learnt), BATCH)]


def logits_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False).logits


def start_of(case: dict, seed: int) -> torch.nn.Module:
    """The model before the first step, in float32."""
    model = Qwen2AudioForConditionalGeneration.from_pretrained(BASE, attn_implementation="eager", dtype=torch.float32)
    if case["lora"] is None:
        for name, value in model.named_parameters():
            # The class freezes the table of positions; release 4 keeps that while loading, release 5 does not.
            frozen = [*case["frozen"], "embed_positions"]
            value.requires_grad_(not any(part in published(name) for part in frozen))
        return model
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    random = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if "lora_A" in name:
                value.copy_((torch.rand(value.shape, generator=random) * 2 - 1) / value.shape[1] ** 0.5)
    return model


@torch.no_grad()
def evaluate(model: torch.nn.Module, rows: Rows, when: str) -> dict[str, torch.Tensor]:
    batches = [rows.batch([row]) for row in rows.held_out]
    logits = [logits_of(model, batch) for batch in batches]
    sums = [float(summed_loss(some, batch["labels"])) for some, batch in zip(logits, batches)]
    counts = [counted(batch) for batch in batches]
    means = [total / count for total, count in zip(sums, counts)]
    losses = torch.tensor([sum(sums) / sum(counts), sum(means) / len(means)], dtype=torch.float64)
    return {f"logits_{when}": logits[0][0], f"eval_loss_{when}": losses}


def factor(step: int) -> float:
    """Of the learning rate, before the step of this number: a warm-up, then a cosine."""
    if step < WARMUP_STEPS:
        return step / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (len(STEPS) - WARMUP_STEPS)))


def hears(name: str) -> bool:
    return any(part in name for part in HEARING)


def check_counts(optimiser: torch.optim.Optimizer, learnt: dict[str, torch.nn.Parameter]) -> None:
    for name, value in learnt.items():
        steps, due = int(optimiser.state[value]["step"]), len(HEARD if hears(name) else STEPS)
        assert steps == due, f"{name} was updated in {steps} steps, expected {due}"


def run(folder: Path, name: str, case: dict, rows: Rows, seed: int) -> dict:
    """Trains, writes what comes of it, and returns what `cases.json` says of it."""
    out = folder / name
    out.mkdir()
    model = start_of(case, seed)
    if case["lora"]:
        make.save_lora(model, out / "start", BASE.name)
    model = model.double()
    learnt = {n: p for n, p in model.named_parameters() if p.requires_grad}
    free = [p for n, p in learnt.items() if NO_DECAY.search(n.lower())]
    decayed = [p for n, p in learnt.items() if not NO_DECAY.search(n.lower())]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, eps=EPS)
    batches, tensors, told = rows.batches(), {}, {"loss": [], "grad_norm": [], "learning_rate": [], "items": []}
    with make.Exact():
        tensors |= evaluate(model, rows, "before")
        for step in range(len(STEPS)):
            some = batches[step * ACCUMULATION:(step + 1) * ACCUMULATION]
            items, loss = sum(map(counted, some)), 0.0
            for batch in some:
                part = summed_loss(logits_of(model, batch), batch["labels"]) / items
                part.backward()
                loss += float(part.detach())
            for n, p in learnt.items():
                assert (p.grad is None) == (hears(n) and step not in HEARD), f"step {step}, {n}"
            if step == 0:
                tensors |= {f"gradient.{published(n)}": p.grad.clone() for n, p in learnt.items()}
            norm, rate = length_of(p.grad for p in learnt.values() if p.grad is not None), case["learning_rate"] * factor(step)
            torch.nn.utils.clip_grad_norm_(learnt.values(), CLIP)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            model.zero_grad()
            for key, value in zip(told, (loss, norm, rate, items)):
                told[key].append(value)
        tensors |= evaluate(model, rows, "after")
    check_counts(optimiser, learnt)
    tensors |= {key: torch.tensor(values, dtype=torch.int64 if key == "items" else torch.float64) for key, values in told.items()}
    save_file({n: (t.float() if t.is_floating_point() else t).contiguous() for n, t in sorted(tensors.items())},
              out / "golden.safetensors")
    if case["lora"]:
        make.save_lora(model, out / "final", BASE.name)
    else:
        (out / "final").mkdir()
        end = {published(n): p.detach().float().contiguous() for n, p in sorted(learnt.items())}
        save_file(end, out / "final/model.safetensors", metadata={"format": "pt"})
    apart = beside_trainer(case, rows, seed, tensors, {n: p.detach() for n, p in learnt.items()})
    print(f"{name}: loss {told['loss'][0]:.4f} to {told['loss'][-1]:.4f}; the Trainer is apart by {apart}")
    return {"name": name, **case, "losses": [round(loss, 6) for loss in told["loss"]], "items": told["items"],
            "trained": sorted(map(published, learnt)),
            "decayed": sorted(published(n) for n in learnt if not NO_DECAY.search(n.lower()))}


def beside_trainer(case: dict, rows: Rows, seed: int, golden: dict, end: dict) -> dict:
    """transformers' Trainer over the same rows in float32, and how far it is from the exact run."""
    model, start = (start_of(case, seed) for _ in range(2))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1, num_train_epochs=1,
            per_device_train_batch_size=BATCH, gradient_accumulation_steps=ACCUMULATION, learning_rate=case["learning_rate"],
            lr_scheduler_type="cosine", warmup_steps=WARMUP_STEPS, weight_decay=DECAY, max_grad_norm=CLIP, save_strategy="no",
            log_level="error", remove_unused_columns=False, train_sampling_strategy="sequential")
        # Qwen2-Audio's class ignores the count of learnt tokens, so its own loss would be another.
        trainer = Trainer(
            model, arguments, train_dataset=rows.learnt, data_collator=rows.batch,
            compute_loss_func=lambda out, labels, num_items_in_batch: summed_loss(out.logits, labels) / num_items_in_batch)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == len(STEPS), f"{len(logs)} steps, expected {len(STEPS)}"
    theirs, before = dict(model.named_parameters()), dict(start.named_parameters())
    check_counts(trainer.optimizer, {n: theirs[n] for n in end})
    apart = {}
    for key, most in (("loss", 1e-5), ("grad_norm", 1e-3), ("learning_rate", 1e-6)):
        logged = torch.tensor([entry[key] for entry in logs], dtype=torch.float64)
        apart[key] = float(((logged - golden[key]).abs() / golden[key].abs().clamp(min=1e-12)).max())
        assert apart[key] < most, f"the Trainer's {key} is {apart[key]} away"
    with torch.no_grad():
        apart["movement"] = (length_of(theirs[n].double() - p for n, p in end.items())
                             / length_of(p - before[n].double() for n, p in end.items()))
    return {key: float(f"{value:.1e}") for key, value in apart.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BASE / "unheard")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = arguments.out
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = Rows(folder, arguments.seed)
    for file, some in (("rows", rows.learnt), ("held_out", rows.held_out)):
        make.write(folder / f"{file}.jsonl", "".join(json.dumps(row) + "\n" for row in some))
    done = [run(folder, name, case, rows, arguments.seed) for name, case in CASES.items()]
    meta = {
        "family": "qwen2audio", "seed": arguments.seed, "order": "as in rows.jsonl", "rows": len(rows.learnt), "batch_size": BATCH,
        "accumulation": ACCUMULATION, "steps": len(STEPS), "heard": HEARD, "schedule": "cosine", "warmup_steps": WARMUP_STEPS,
        "weight_decay": DECAY, "max_grad_norm": CLIP, "betas": BETAS, "eps": EPS, "arithmetic": "float64 over the stored values",
        "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__}
    (folder / "cases.json").write_text(json.dumps({"meta": meta, "cases": done}) + "\n")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # the writer makes them its owner's alone


if __name__ == "__main__":
    main()
