#!/usr/bin/env python3
"""Makes a LoRA for a checkpoint folder of text models, and records what the model answers with it.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors
    python lora.py ../../../models/qwen3/golden/tied --like patterns
    python lora.py ../../../models/gemma/golden/text --like pattern

Writes FOLDER/lora: `adapter_config.json` and `adapter_model.safetensors` as PEFT saves them, and beside them
`cases.json` and `golden.safetensors`, which `host parity` replays with the LoRA on. Both factors are random; the same
versions give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

STEPS = 8  # greedy tokens recorded
TEXTS = ["The answer is C", "Which planet is it? Mars."]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# What LoRAs differ in. Each of these is one that people train.
KINDS: dict[str, dict] = {
    "list": {"r": 4, "lora_alpha": 12, "target_modules": [*ATTENTION, "gate_proj", "up_proj", "down_proj"]},
    "patterns": {"r": 3, "lora_alpha": 5, "use_rslora": True, "target_modules": [*ATTENTION, "down_proj"],
                 "rank_pattern": {"q_proj": 6, "layers.1.mlp.down_proj": 2}, "alpha_pattern": {"o_proj": 9}},
    "pattern": {"r": 2, "lora_alpha": 4, "target_modules": r"^(?!.*vision).*layers\.\d+\.(self_attn\.(q|v)|mlp\.up)_proj"},
    "all": {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"},
    "some": {"r": 2, "lora_alpha": 8, "target_modules": ATTENTION, "exclude_modules": ["k_proj"],
             "layers_to_transform": [1], "layers_pattern": "layers"},
    "head": {"r": 2, "lora_alpha": 4, "target_modules": ["lm_head", "q_proj"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--like", choices=KINDS, default="list")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32", help="of the LoRA's file")
    parser.add_argument("--seed", type=int, default=31)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = arguments.folder / "lora"
    shutil.rmtree(out, ignore_errors=True)

    base = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **KINDS[arguments.like])).eval()
    random = torch.Generator().manual_seed(arguments.seed)
    stored = getattr(torch, arguments.dtype)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if "lora_" in name:
                noise = torch.randn(value.shape, generator=random) / value.shape[1] ** 0.5
                value.copy_(noise.to(stored))  # the recorded logits are those of the stored values
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    tensors = load_file(out / "adapter_model.safetensors")
    save_file({name: value.to(stored) for name, value in sorted(tensors.items())}, out / "adapter_model.safetensors",
              metadata={"format": "pt"})
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = arguments.folder.name  # no path of this machine
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # a set's order changes from run to run
    write(out / "adapter_config.json", config)
    record(out, model, AutoTokenizer.from_pretrained(arguments.folder))
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)  # the writer makes them its owner's alone


@torch.no_grad()
def record(out: Path, model, tokenizer) -> None:
    """One text with what follows it, and several as a batch padded on the right, as in training."""
    cases, tensors = [], {}
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    width = ids.shape[1]
    greedy = ids
    for _ in range(STEPS):
        greedy = torch.cat([greedy, model(input_ids=greedy, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    logits = model(input_ids=greedy, use_cache=False).logits
    chosen = logits[:, width - 1:-1]
    best = chosen.topk(2, dim=-1).values
    tensors |= {"lora.input_ids": ids, "lora.attention_mask": torch.ones_like(ids),
                "lora.logits": logits[:, :width].clone(), "lora.greedy": greedy[:, width:].clone(),
                "lora.greedy_logits": chosen.clone()}
    cases.append({"name": "lora", "texts": TEXTS[:1], "smallest_margin": float((best[..., 0] - best[..., 1]).min())})

    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    tensors |= {"lora_batch.input_ids": ids, "lora_batch.attention_mask": mask, "lora_batch.logits": logits}
    cases.append({"name": "lora_batch", "texts": TEXTS})
    save_file(tensors, out / "golden.safetensors")
    write(out / "cases.json", {"cases": cases})


def write(path: Path, data: dict) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
