"""Short training runs of a tiny checkpoint: computed exactly, held against transformers' Trainer, and written down.

A run is computed in float64 over the stored values and written as float32. Beside it transformers' Trainer learns the same
rows in float32: if that is not the same run, the script fails, and it prints how far apart the two are. Where `movement` is
above 2e-4, rounding decides the run, since AdamW makes a whole step of a gradient that is almost zero: take another seed.
The same versions give the same bytes.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

import four_bits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "parity/golden"))
from recording import write  # noqa: E402

# What is learnt from, and how: two batches of two rows a step, but for the last step, which has one row.
ROWS, BATCH, ACCUMULATION = 17, 2, 2
DECAY, CLIP, BETAS, EPS = 0.01, 1.0, (0.9, 0.999), 1e-8
NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
# The linear layers of most decoders.
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def begin() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


class Exact(TorchFunctionMode):
    """Lets a model that widens to float32 in places widen to float64 instead."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wider(value):
            return torch.float64 if value is torch.float32 else value

        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*map(wider, args), **{name: wider(value) for name, value in (kwargs or {}).items()})


def padded(rows: list[dict], pad: int = 0) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    fills = {"input_ids": pad, "labels": -100, "attention_mask": 0}
    return {key: torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows]) for key, fill in fills.items()}


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")


def counted(batch: dict[str, torch.Tensor]) -> int:
    return int((batch["labels"][:, 1:] != -100).sum())


def length_of(tensors) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


class Runs:
    """Runs over one checkpoint. What is particular to a model is a method of a class below this one."""

    # By number or as a share of all steps, as the Trainer takes it.
    warmup: float = 0.2
    # How names in the checkpoint differ from the class's, by their beginning.
    names: dict[str, str] = {}
    # Parts of the names of parameters that are never learnt.
    unused: list[str] = []

    def __init__(self, folder: Path, seed: int, rows: list[dict], held_out: list[dict], out: Path | None = None) -> None:
        self.folder, self.seed, self.rows, self.held_out = folder, seed, rows, held_out
        self.out = out or folder / "training"
        self.steps = -(-(-(-len(rows) // BATCH)) // ACCUMULATION)
        self.warmup_steps = math.ceil(self.steps * self.warmup) if self.warmup < 1 else int(self.warmup)

    def load(self) -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(self.folder, attn_implementation="eager", dtype=torch.float32)

    def start_of(self, name: str, case: dict) -> torch.nn.Module:
        """The model before the first step, in float32."""
        model = self.load()
        if case.get("quantised"):
            self.quantise(model)
        if case["lora"] is None:
            for parameter, value in model.named_parameters():
                value.requires_grad_(not any(part in self.stored_name(parameter) for part in [*case["frozen"], *self.unused]))
            return model
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
        self.draw(model, name, case, "lora_")
        return model

    def quantise(self, model: torch.nn.Module) -> None:
        head = model.get_output_embeddings()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                module.weight.data.copy_(four_bits.rounded(module.weight.data))

    @torch.no_grad()
    def draw(self, model: torch.nn.Module, name: str, case: dict, mark: str) -> None:
        """The initial factors. Under QLoRA, B does not begin at zero, as when a LoRA is trained on."""
        random = torch.Generator().manual_seed(self.seed + len(name))
        for parameter, value in sorted(model.named_parameters()):
            if mark in parameter:
                start = (torch.rand(value.shape, generator=random) * 2 - 1) / value.shape[1] ** 0.5
                value.copy_(start if "lora_A" in parameter else start * 0.2 * bool(case.get("quantised")))

    def batch_of(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        return padded(rows)

    def logits_of(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**{key: value for key, value in batch.items() if key != "labels"}, use_cache=False).logits

    def stored_name(self, name: str) -> str:
        for now, then in self.names.items():
            if name.startswith(now):
                return then + name[len(now):]
        return name.replace(".default.", ".")

    def save_lora(self, model: torch.nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)
        self.write_factors(model, folder, "lora_")

    def write_factors(self, model: torch.nn.Module, folder: Path, mark: str) -> None:
        """The factors in float32, and settings that are the same on every machine."""
        (folder / "README.md").unlink(missing_ok=True)
        factors = {self.stored_name(n): p.detach().float().contiguous() for n, p in sorted(model.named_parameters()) if mark in n}
        save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": self.folder.name}
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # a set's order changes from run to run
        write(folder / "adapter_config.json", config)

    @torch.no_grad()
    def evaluate(self, model: torch.nn.Module, when: str) -> dict[str, torch.Tensor]:
        batches = [self.batch_of([row]) for row in self.held_out]
        logits = [self.logits_of(model, batch) for batch in batches]
        sums = [float(summed_loss(some, batch["labels"])) for some, batch in zip(logits, batches)]
        counts = [counted(batch) for batch in batches]
        means = [total / count for total, count in zip(sums, counts) if count]
        losses = torch.tensor([sum(sums) / sum(counts), sum(means) / len(means)], dtype=torch.float64)
        return {f"logits_{when}": logits[0][0], f"eval_loss_{when}": losses}

    def factor(self, step: int) -> float:
        """Of the learning rate, before the step of this number: a warm-up, then a cosine."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup_steps) / (self.steps - self.warmup_steps)))

    def begin_updates(self, learnt: dict[str, torch.nn.Parameter]) -> None:
        self.moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in learnt.items()}

    @torch.no_grad()
    def update(self, learnt: dict[str, torch.nn.Parameter], step: int, rate: float, norm: float) -> None:
        """Clipping and AdamW, written out; the first step is 0."""
        for name, value in learnt.items():
            value.grad.mul_(min(1.0, CLIP / (norm + 1e-6)))
            first, second = self.moments[name]
            if not NO_DECAY.search(name.lower()):
                value.mul_(1 - rate * DECAY)
            first.mul_(BETAS[0]).add_(value.grad, alpha=1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(value.grad, value.grad, value=1 - BETAS[1])
            root = (second / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(EPS)
            value.addcdiv_(first, root, value=-rate / (1 - BETAS[0] ** (step + 1)))

    def run(self, name: str, case: dict) -> dict:
        """Trains, writes what comes of it, and returns what `cases.json` says of it."""
        out = self.out / name
        out.mkdir(parents=True)
        model = self.start_of(name, case)
        if case["lora"]:
            self.save_lora(model, out / "start")
        model = model.double()
        learnt = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.begin_updates(learnt)
        batches = [self.batch_of(self.rows[at:at + BATCH]) for at in range(0, len(self.rows), BATCH)]
        tensors, told = {}, {"loss": [], "grad_norm": [], "learning_rate": [], "items": []}
        with Exact():
            tensors |= self.evaluate(model, "before")
            for step in range(self.steps):
                some = batches[step * ACCUMULATION:(step + 1) * ACCUMULATION]
                items, loss = sum(map(counted, some)), 0.0
                for batch in some:
                    part = summed_loss(self.logits_of(model, batch), batch["labels"]) / items
                    part.backward()
                    loss += float(part.detach())
                if step == 0:
                    tensors |= {f"gradient.{self.stored_name(n)}": p.grad.clone() for n, p in learnt.items()}
                norm = length_of(p.grad for p in learnt.values() if p.grad is not None)
                rate = case["learning_rate"] * self.factor(step)
                self.update(learnt, step, rate, norm)
                model.zero_grad()
                for key, value in zip(told, (loss, norm, rate, items)):
                    told[key].append(value)
            tensors |= self.evaluate(model, "after")
        tensors |= {key: torch.tensor(values, dtype=torch.int64 if key == "items" else torch.float64) for key, values in told.items()}
        save_file({n: (t.float() if t.is_floating_point() else t).contiguous() for n, t in sorted(tensors.items())},
                  out / "golden.safetensors")
        if case["lora"]:
            self.save_lora(model, out / "final")
        else:
            (out / "final").mkdir()
            end = {self.stored_name(n): p.detach().float().contiguous() for n, p in sorted(learnt.items())}
            save_file(end, out / "final/model.safetensors", metadata={"format": "pt"})
        apart = self.beside_trainer(name, case, tensors, {n: p.detach() for n, p in learnt.items()})
        print(f"{self.folder.name} {name}: loss {told['loss'][0]:.4f} to {told['loss'][-1]:.4f}; the Trainer is apart by {apart}")
        return {"name": name, **case, "losses": [round(loss, 6) for loss in told["loss"]], "items": told["items"],
                "trained": sorted(map(self.stored_name, learnt)),
                "decayed": sorted(self.stored_name(n) for n in learnt if not NO_DECAY.search(n.lower()))}

    def trainer(self, model: torch.nn.Module, arguments: TrainingArguments) -> Trainer:
        return Trainer(model, arguments, train_dataset=self.rows, data_collator=self.batch_of)

    def check_trainer(self, trainer: Trainer, learnt: dict[str, torch.nn.Parameter]) -> None:
        """What else must be so after the Trainer's run."""

    def beside_trainer(self, name: str, case: dict, golden: dict, end: dict) -> dict:
        """transformers' Trainer over the same rows in float32, and how far it is from the exact run."""
        model, start = (self.start_of(name, case) for _ in range(2))
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(
                output_dir=scratch, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1, num_train_epochs=1,
                per_device_train_batch_size=BATCH, gradient_accumulation_steps=ACCUMULATION,
                learning_rate=case["learning_rate"], lr_scheduler_type="cosine", warmup_steps=self.warmup, weight_decay=DECAY,
                max_grad_norm=CLIP, save_strategy="no", log_level="error", remove_unused_columns=False,
                train_sampling_strategy="sequential")
            trainer = self.trainer(model, arguments)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert len(logs) == self.steps, f"{len(logs)} steps, expected {self.steps}"
        theirs, before = dict(model.named_parameters()), dict(start.named_parameters())
        self.check_trainer(trainer, {n: theirs[n] for n in end})
        apart = {}
        for key, most in (("loss", 1e-5), ("grad_norm", 1e-3), ("learning_rate", 1e-6)):
            logged = torch.tensor([entry[key] for entry in logs], dtype=torch.float64)
            apart[key] = float(((logged - golden[key]).abs() / golden[key].abs().clamp(min=1e-12)).max())
            assert apart[key] < most, f"{self.folder.name} {name}: the Trainer's {key} is {apart[key]} away"
        with torch.no_grad():
            apart["movement"] = (length_of(theirs[n].double() - p for n, p in end.items())
                                 / length_of(p - before[n].double() for n, p in end.items()))
        return {key: float(f"{value:.1e}") for key, value in apart.items()}

    def record(self, family: str, cases: dict[str, dict], **facts) -> None:
        """Runs all cases, and writes the rows and what is the same for all of them. Only clips lie there before."""
        for file, some in (("rows", self.rows), ("held_out", self.held_out)):
            write(self.out / f"{file}.jsonl", "".join(json.dumps(row) + "\n" for row in some))
        done = [self.run(name, case) for name, case in cases.items()]
        meta = {
            "family": family, "seed": self.seed, "order": "as in rows.jsonl", "rows": len(self.rows), "batch_size": BATCH,
            "accumulation": ACCUMULATION, "steps": self.steps, "schedule": "cosine", "warmup_steps": self.warmup_steps,
            "weight_decay": DECAY, "max_grad_norm": CLIP, "betas": BETAS, "eps": EPS,
            "arithmetic": "float64 over the stored values", "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__, "peft": peft.__version__, **facts}
        (self.out / "cases.json").write_text(json.dumps({"meta": meta, "cases": done}) + "\n")
        for path in self.folder.rglob("*.safetensors"):
            path.chmod(0o644)  # the writer makes them its owner's alone


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
