"""python training_peft.py FOLDER [--rows 4] [--tokens 80] [--learnt 4] [--steps 2] [--dtype fp32|bf16] [--method lora|full] [--device cuda]

Steps of PEFT (or of a full fine-tuning by transformers) on random rows: tokens a second of processor time, and peak memory.
Beside it: `cargo run --release -p train --example step -- FOLDER …` with the same options."""
import argparse
import json
import resource
import time

import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder")
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--tokens", type=int, default=80)
parser.add_argument("--learnt", type=int, default=4, help="of each row, at its end")
parser.add_argument("--steps", type=int, default=2, help="measured; one before them is not")
parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
parser.add_argument("--method", default="lora", choices=["lora", "full"])
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--device", default="cpu")
wanted = parser.parse_args()

dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[wanted.dtype]
model = transformers.AutoModelForCausalLM.from_pretrained(wanted.folder, dtype=dtype).to(wanted.device)
if wanted.method == "lora":
    import peft

    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = peft.get_peft_model(model, peft.LoraConfig(r=wanted.rank, lora_alpha=2 * wanted.rank, target_modules=names))
model.train()
learnt = [p for p in model.parameters() if p.requires_grad]
optimiser = torch.optim.AdamW(learnt, lr=1e-4, weight_decay=0.0)
random = torch.Generator().manual_seed(1)
ids = torch.randint(0, model.config.vocab_size, (wanted.rows, wanted.tokens), generator=random).to(wanted.device)
labels = ids.clone()
labels[:, : wanted.tokens - wanted.learnt] = -100


def step():
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learnt, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())


step()
began, wall = time.process_time(), time.monotonic()
losses = [step() for _ in range(wanted.steps)]
spent = time.process_time() - began
print(json.dumps({
    "tokens_per_processor_second": round(wanted.rows * wanted.tokens * wanted.steps / spent, 2),
    "processor_seconds_per_step": round(spent / wanted.steps, 3),
    "seconds_per_step": round((time.monotonic() - wall) / wanted.steps, 3),
    "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "device_peak_mb": torch.cuda.max_memory_allocated() >> 20 if wanted.device != "cpu" else None, "losses": losses, "threads": torch.get_num_threads(),
}))
