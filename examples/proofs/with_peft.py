"""python with_peft.py FOLDER ROWS OUT [--eval-rows FILE] [--order given|transformers] [--rate 5e-4] [--epochs 1] …

Learns tokenised rows as transformers' Trainer and PEFT do: LoRA of rank 16 on all seven kinds of layer, AdamW, linear
schedule. OUT receives `start/`, the adapter before the first step, which `host train --lora OUT/start` begins with as well;
`final/`, the adapter after the last; `metrics.jsonl` and `timing.json`, with the keys that `host train` writes."""
import argparse
import json
import os
import resource
import time

import peft
import torch
import transformers

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", help="a checkpoint in the Hugging Face layout")
parser.add_argument("rows", help="lines of input_ids and labels, as `host data tokenize` writes them")
parser.add_argument("out")
parser.add_argument("--eval-rows")
parser.add_argument("--order", default="given", choices=["given", "transformers"])
parser.add_argument("--rate", type=float, default=5e-4)
parser.add_argument("--epochs", type=float, default=1)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--accumulation", type=int, default=2)
parser.add_argument("--logging-steps", type=int, default=1)
parser.add_argument("--seed", type=int, default=42)
wanted = parser.parse_args()


def rows_of(path):
    return [json.loads(line) for line in open(path)]


def collate(rows):
    """Padding on the right, to the longest row of the batch."""
    longest = max(len(row["input_ids"]) for row in rows)
    pad = lambda row, key, value: row[key] + [value] * (longest - len(row[key]))
    return {
        "input_ids": torch.tensor([pad(row, "input_ids", 0) for row in rows]),
        "labels": torch.tensor([pad(row, "labels", -100) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]),
    }


class Metrics(transformers.TrainerCallback):
    """Writes what is logged, every digit of it."""

    def __init__(self, path):
        self.file = open(path, "w")

    def on_log(self, args, state, control, logs=None, **others):
        kind = "train" if "loss" in logs else "eval" if "eval_loss" in logs else "end"
        self.file.write(json.dumps({"type": kind, "step": state.global_step, **logs}) + "\n")
        self.file.flush()


transformers.set_seed(wanted.seed)
os.makedirs(wanted.out, exist_ok=True)
model = transformers.AutoModelForCausalLM.from_pretrained(wanted.folder, dtype=torch.float32)
model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=TARGETS))
model.save_pretrained(f"{wanted.out}/start")
evaluated = rows_of(wanted.eval_rows) if wanted.eval_rows else None
settings = transformers.TrainingArguments(
    output_dir=f"{wanted.out}/trainer", num_train_epochs=wanted.epochs, learning_rate=wanted.rate, lr_scheduler_type="linear",
    per_device_train_batch_size=wanted.batch, per_device_eval_batch_size=wanted.batch,
    gradient_accumulation_steps=wanted.accumulation, logging_steps=wanted.logging_steps, save_strategy="no",
    eval_strategy="epoch" if evaluated else "no", seed=wanted.seed, use_cpu=True, report_to=[], disable_tqdm=True,
    remove_unused_columns=False, dataloader_pin_memory=False,
    train_sampling_strategy="sequential" if wanted.order == "given" else "random",
)
trainer = transformers.Trainer(
    model=model, args=settings, train_dataset=rows_of(wanted.rows), eval_dataset=evaluated, data_collator=collate,
    callbacks=[Metrics(f"{wanted.out}/metrics.jsonl")],
)
began, wall = time.process_time(), time.monotonic()
trainer.train()
spent = {"train_processor_seconds": time.process_time() - began, "train_duration_seconds": time.monotonic() - wall}
model.save_pretrained(f"{wanted.out}/final")
spent["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
json.dump(spent, open(f"{wanted.out}/timing.json", "w"))
print(json.dumps(spent))
