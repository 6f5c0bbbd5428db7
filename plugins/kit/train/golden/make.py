#!/usr/bin/env python3
"""Records short training runs of the other classes that the plugin `qwen3` reads: in `others/`, a tiny checkpoint each.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors tokenizers
    python make.py                                   # those that are committed
    python make.py --out DIR --seed 70 --larger      # others: `QWEN3_TRAINING=DIR/phi3:DIR/glm4 cargo test -p qwen3`

A run is computed in float64 over the stored values and written as float32. Beside it transformers' Trainer learns the same
rows in float32: if that is not the same run, the script fails, and it prints how far apart the two are. Where `movement` is
above 2e-4, rounding decides the run, since AdamW makes a whole step of a gradient that is almost zero: take another seed.
The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
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
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

import four_bits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "parity/golden"))
from recording import randomise, save_weights, state_of, write  # noqa: E402

# What is learnt from, and how: two batches of two rows a step, but for the last step, which has one row.
ROWS, BATCH, ACCUMULATION, WARMUP = 17, 2, 2, 0.2
DECAY, CLIP, BETAS, EPS = 0.01, 1.0, (0.9, 0.999), 1e-8
STEPS = -(-(-(-ROWS // BATCH)) // ACCUMULATION)
WARMUP_STEPS = math.ceil(STEPS * WARMUP)
NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")

APART = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FIELDS = {
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
    "intermediate_size": 24, "max_position_embeddings": 4096, "num_attention_heads": 2, "num_hidden_layers": 2,
    "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "use_cache": True, "attention_dropout": 0.0,
}
ALL = ("full", "lora", "qlora")

# By folder: `model_type`, the name of the class, the fields on which mistakes show, the linear layers, and what is committed.
CLASSES: dict[str, tuple[str, str, dict, list[str], tuple[str, ...]]] = {
    # A scaling of positions, and a head of its own.
    "llama": ("llama", "LlamaForCausalLM", {
        "tie_word_embeddings": False, "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}}, APART, ("full", "qlora")),
    # A tied head, and biases everywhere.
    "llama-tied": ("llama", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}, APART, ("full", "lora")),
    # A window in all layers, heads of another size than their share.
    "mistral": ("mistral", "MistralForCausalLM", {"sliding_window": 5, "head_dim": 12}, APART, ("full", "qlora")),
    # A layer that does not know positions.
    "smollm3": ("smollm3", "SmolLM3ForCausalLM", {"no_rope_layers": [1, 0], "rope_theta": 5000000.0}, APART, ("full", "lora")),
    # Norms behind both halves and none in front; queries and keys are normalised over all heads.
    "olmo2": ("olmo2", "Olmo2ForCausalLM", {"tie_word_embeddings": False}, APART, ("full", "lora")),
    # Four multipliers.
    "granite": ("granite", "GraniteForCausalLM", {
        "embedding_multiplier": 12.0, "attention_multiplier": 0.2, "residual_multiplier": 0.22, "logits_scaling": 4.0}, APART,
        ("full", "qlora")),
    # Half of a head turns, by neighbours; norms in front of both halves and behind them; gate and up are one matrix.
    "glm4": ("glm4", "Glm4ForCausalLM", {
        "head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": True, "tie_word_embeddings": False},
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"], ALL),
    # The same without the norms behind.
    "glm": ("glm", "GlmForCausalLM", {
        "head_dim": 8, "partial_rotary_factor": 0.5, "attention_bias": True, "tie_word_embeddings": False},
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"], ()),
    # As in Phi 4 mini: one matrix before attention and one for gate and up, of a head a part that turns, and factors for each
    # pair of channels.
    "phi3": ("phi3", "Phi3ForCausalLM", {
        "partial_rotary_factor": 0.75, "original_max_position_embeddings": 4096, "max_position_embeddings": 131072,
        "sliding_window": 9, "rope_scaling": {
            "type": "longrope", "short_factor": [1.0, 1.25, 2.5], "long_factor": [1.5, 4.0, 30.0]}},
        ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], ALL),
}
LARGER = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 88, "num_hidden_layers": 4}


def case_of(name: str, linears: list[str], turns_whole: bool) -> dict:
    # Softmax takes no notice of a key's bias in channels that do not turn: its gradient is zero, and AdamW would make whole
    # steps of what rounding leaves of it. The Trainer's run in float32 would be 5e-3 of the way apart.
    frozen = [] if turns_whole else ["k_proj.bias"]
    lora = {"r": 2, "lora_alpha": 6, "target_modules": linears}
    return {
        "full": {"learning_rate": 1e-3, "lora": None, "frozen": frozen},
        "lora": {"learning_rate": 5e-3, "lora": lora},
        # As when a LoRA is trained on: B does not begin at zero.
        "qlora": {"learning_rate": 5e-3, "lora": lora | {"use_rslora": True}, "quantised": True},
    }[name]


class Exact(TorchFunctionMode):
    """Lets a model that widens to float32 in places widen to float64 instead."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wider(value):
            return torch.float64 if value is torch.float32 else value

        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*map(wider, args), **{name: wider(value) for name, value in (kwargs or {}).items()})


def make_checkpoint(folder: Path, model_type: str, architecture: str, fields: dict, seed: int, words: int) -> None:
    """Random weights and as many words: these are the tokens."""
    marks = ["<|end|>", "<|user|>", "<|assistant|>"]
    # Six rows of the table stay without a token, as in published ones.
    vocabulary = {f"w{number}": number for number in range(words - len(marks) - 6)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(prefix="")
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|> {% endfor %}<|assistant|>"
    write(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": marks[0], "pad_token": marks[0], "chat_template": template})
    end = tokenizer.token_to_id(marks[0])
    write(folder / "config.json", FIELDS | {
        "architectures": [architecture], "model_type": model_type, "vocab_size": words, "eos_token_id": end, "pad_token_id": end,
        **fields})
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    save_weights(state_of(randomise(model, seed, torch.bfloat16, scaled), torch.bfloat16), folder, 1)


def scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights on which mistakes show: norms are not one, biases are not zero."""
    if "norm" in name:
        return 1 + 0.2 * noise
    if noise.ndim == 1:
        return 0.1 * noise
    return noise * (0.4 if "embed" in name else 1.5 / noise.shape[1] ** 0.5)


def make_row(seed: int, number: int, words: list[int]) -> dict:
    """Random tokens, of which a part is learnt: one stretch, two, one token, or none."""
    random = torch.Generator().manual_seed(seed * 1000 + number)
    length = int(torch.randint(7, 26, (), generator=random))
    ids = [words[place] for place in torch.randint(len(words), (length,), generator=random).tolist()]
    learnt = [
        range(length // 2, length), [0, *range(length // 2, length)],  # nothing comes before the first: it counts for nothing
        [] if number % 2 == 0 else range(length // 2, length), [2, 3, length - 2, length - 1], [length - 1]][number % 5]
    labels = [token if place in learnt else -100 for place, token in enumerate(ids)]
    return {"input_ids": ids, "labels": labels, "attention_mask": [1] * length}


def batch_of(rows: list[dict]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    fills = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    return {key: torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows]) for key, fill in fills.items()}


def batches_of(rows: list[dict]) -> list[dict[str, torch.Tensor]]:
    return [batch_of(rows[at:at + BATCH]) for at in range(0, len(rows), BATCH)]


def logits_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")


def counted(batch: dict[str, torch.Tensor]) -> int:
    return int((batch["labels"][:, 1:] != -100).sum())


def stored_name(name: str) -> str:
    return name.replace(".default.", ".")


def start_of(folder: Path, name: str, case: dict, seed: int) -> PreTrainedModel:
    """The model before the first step, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    if case.get("quantised"):
        head = model.get_output_embeddings()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                module.weight.data.copy_(four_bits.rounded(module.weight.data))
    if case["lora"] is None:
        for parameter, value in model.named_parameters():
            value.requires_grad_(not any(part in parameter for part in case["frozen"]))
        return model
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    random = torch.Generator().manual_seed(seed + len(name))
    with torch.no_grad():
        for parameter, value in sorted(model.named_parameters()):
            if "lora_" in parameter:
                start = (torch.rand(value.shape, generator=random) * 2 - 1) / value.shape[1] ** 0.5
                value.copy_(start if "lora_A" in parameter else start * 0.2 * bool(case.get("quantised")))
    return model


def save_lora(model: torch.nn.Module, folder: Path, base: str) -> None:
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    factors = {stored_name(n): p.detach().float().contiguous() for n, p in sorted(model.named_parameters()) if "lora_" in n}
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": base}
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set's order changes from run to run
    write(folder / "adapter_config.json", config)


@torch.no_grad()
def evaluate(model: torch.nn.Module, held_out: list[dict], when: str) -> dict[str, torch.Tensor]:
    batches = [batch_of([row]) for row in held_out]
    logits = [logits_of(model, batch) for batch in batches]
    sums = [float(summed_loss(some, batch["labels"])) for some, batch in zip(logits, batches)]
    counts = [counted(batch) for batch in batches]
    means = [total / count for total, count in zip(sums, counts) if count]
    losses = torch.tensor([sum(sums) / sum(counts), sum(means) / len(means)], dtype=torch.float64)
    return {f"logits_{when}": logits[0][0], f"eval_loss_{when}": losses}


def factor(step: int) -> float:
    """Of the learning rate, before the step of this number: a warm-up, then a cosine."""
    if step < WARMUP_STEPS:
        return step / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)))


@torch.no_grad()
def update(learnt: dict[str, torch.nn.Parameter], moments: dict, step: int, rate: float) -> None:
    """AdamW, written out; the first step is 1."""
    for name, value in learnt.items():
        first, second = moments.setdefault(name, (torch.zeros_like(value), torch.zeros_like(value)))
        if not NO_DECAY.search(name.lower()):
            value.mul_(1 - rate * DECAY)
        first.mul_(BETAS[0]).add_(value.grad, alpha=1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(value.grad, value.grad, value=1 - BETAS[1])
        value.addcdiv_(first, (second / (1 - BETAS[1] ** step)).sqrt_().add_(EPS), value=-rate / (1 - BETAS[0] ** step))


def length_of(tensors) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


def run(folder: Path, name: str, case: dict, rows: list[dict], held_out: list[dict], seed: int) -> dict:
    """Trains, writes what comes of it, and returns what `cases.json` says of it."""
    out = folder / "training" / name
    out.mkdir(parents=True)
    model = start_of(folder, name, case, seed)
    if case["lora"]:
        save_lora(model, out / "start", folder.name)
    model = model.double()
    learnt = {n: p for n, p in model.named_parameters() if p.requires_grad}
    batches, moments, tensors, told = batches_of(rows), {}, {}, {"loss": [], "grad_norm": [], "learning_rate": [], "items": []}
    with Exact():
        tensors |= evaluate(model, held_out, "before")
        for step in range(STEPS):
            some = batches[step * ACCUMULATION:(step + 1) * ACCUMULATION]
            items, loss = sum(map(counted, some)), 0.0
            for batch in some:
                part = summed_loss(logits_of(model, batch), batch["labels"]) / items
                part.backward()
                loss += float(part.detach())
            if step == 0:
                tensors |= {f"gradient.{stored_name(n)}": p.grad.clone() for n, p in learnt.items()}
            norm, rate = length_of(p.grad for p in learnt.values()), case["learning_rate"] * factor(step)
            for value in learnt.values():
                value.grad.mul_(min(1.0, CLIP / (norm + 1e-6)))
            update(learnt, moments, step + 1, rate)
            model.zero_grad()
            for key, value in zip(told, (loss, norm, rate, items)):
                told[key].append(value)
        tensors |= evaluate(model, held_out, "after")
    tensors |= {key: torch.tensor(values, dtype=torch.int64 if key == "items" else torch.float64) for key, values in told.items()}
    save_file({n: (t.float() if t.is_floating_point() else t).contiguous() for n, t in sorted(tensors.items())},
              out / "golden.safetensors")
    if case["lora"]:
        save_lora(model, out / "final", folder.name)
    else:
        (out / "final").mkdir()
        state = state_of(model, torch.float32)
        save_file({stored_name(n): state[n] for n in sorted(learnt)}, out / "final/model.safetensors", metadata={"format": "pt"})
    apart = beside_trainer(folder, name, case, rows, seed, tensors, {n: p.detach() for n, p in learnt.items()})
    print(f"{folder.name} {name}: loss {told['loss'][0]:.4f} to {told['loss'][-1]:.4f}; the Trainer is apart by {apart}")
    return {"name": name, **case, "losses": [round(loss, 6) for loss in told["loss"]], "items": told["items"],
            "trained": sorted(map(stored_name, learnt)),
            "decayed": sorted(stored_name(n) for n in learnt if not NO_DECAY.search(n.lower()))}


def beside_trainer(folder: Path, name: str, case: dict, rows: list[dict], seed: int, golden: dict, end: dict) -> dict:
    """transformers' Trainer over the same rows in float32, and how far it is from the exact run."""
    model, start = (start_of(folder, name, case, seed) for _ in range(2))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1, num_train_epochs=1,
            per_device_train_batch_size=BATCH, gradient_accumulation_steps=ACCUMULATION, learning_rate=case["learning_rate"],
            lr_scheduler_type="cosine", warmup_steps=WARMUP, weight_decay=DECAY, max_grad_norm=CLIP, save_strategy="no",
            log_level="error", remove_unused_columns=False, train_sampling_strategy="sequential")
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=batch_of)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == STEPS, f"{len(logs)} steps, expected {STEPS}"
    apart = {}
    for key, most in (("loss", 1e-5), ("grad_norm", 1e-3), ("learning_rate", 1e-6)):
        theirs = torch.tensor([entry[key] for entry in logs], dtype=torch.float64)
        apart[key] = float(((theirs - golden[key]).abs() / golden[key].abs().clamp(min=1e-12)).max())
        assert apart[key] < most, f"{folder.name} {name}: the Trainer's {key} is {apart[key]} away"
    theirs, before = dict(model.named_parameters()), dict(start.named_parameters())
    with torch.no_grad():
        apart["movement"] = (length_of(theirs[n].double() - p for n, p in end.items())
                             / length_of(p - before[n].double() for n, p in end.items()))
    return {key: float(f"{value:.1e}") for key, value in apart.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "others")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--larger", action="store_true", help="four times the width, twice the layers, and all cases of all")
    parser.add_argument("--only", choices=CLASSES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for place, (name, (model_type, architecture, fields, linears, kept)) in enumerate(CLASSES.items()):
        cases = ALL if arguments.larger else kept
        if arguments.only not in (None, name) or not cases:
            continue
        folder, seed = arguments.out / name, arguments.seed + place
        shutil.rmtree(folder, ignore_errors=True)
        if arguments.larger:
            fields = fields | LARGER | ({"no_rope_layers": [1, 1, 0, 0]} if "no_rope_layers" in fields else {})
        make_checkpoint(folder, model_type, architecture, fields, seed, 320 if arguments.larger else 80)
        # Few words, so that there is something to learn in a few steps.
        words = (torch.randperm(60, generator=torch.Generator().manual_seed(seed))[:16] + 4).tolist()
        rows = [make_row(seed, number, words) for number in range(ROWS)]
        held_out = [make_row(seed, number, words) for number in (500, 501, 503)]
        for file, some in (("rows", rows), ("held_out", held_out)):
            write(folder / f"training/{file}.jsonl", "".join(json.dumps(row) + "\n" for row in some))
        turns_whole = not fields.get("attention_bias") or "partial_rotary_factor" not in fields
        done = [run(folder, case, case_of(case, linears, turns_whole), rows, held_out, seed) for case in cases]
        meta = {
            "family": name, "seed": seed, "order": "as in rows.jsonl", "rows": ROWS, "batch_size": BATCH,
            "accumulation": ACCUMULATION, "steps": STEPS, "schedule": "cosine", "warmup_steps": WARMUP_STEPS, "weight_decay": DECAY,
            "max_grad_norm": CLIP, "betas": BETAS, "eps": EPS, "arithmetic": "float64 over the stored values",
            "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__}
        (folder / "training/cases.json").write_text(json.dumps({"meta": meta, "cases": done}) + "\n")
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)  # the writer makes them its owner's alone


if __name__ == "__main__":
    main()
