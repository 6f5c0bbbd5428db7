#!/usr/bin/env python3
"""Makes `four_bits/`, the Vicuna of `tiny/` as bitsandbytes quantises it to NF4, and records what transformers computes with
it, in fp32 and without SALMONN's LoRA.

    pip install torch==2.15.0 transformers==5.23.0 bitsandbytes==0.50.2 safetensors sentencepiece
    python make_four_bits.py

On a processor, the same versions give the same bytes.
"""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, GenerationConfig, LlamaForCausalLM

HERE, STEPS = Path(__file__).resolve().parent, 8
IDS = [1, 288, 339, 299, 335, 314, 313, 304, 317]


def main() -> None:
    torch.set_num_threads(1)
    whole, out = HERE / "tiny/vicuna", HERE / "four_bits"
    shutil.rmtree(out, ignore_errors=True)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                bnb_4bit_compute_dtype=torch.float16,
                                llm_int8_skip_modules=["model.embed_tokens"])  # so that the head is quantised, too
    LlamaForCausalLM.from_pretrained(whole, quantization_config=config, dtype=torch.float16,
                                     device_map="cpu").save_pretrained(out / "vicuna")
    for name in ["tokenizer.model", "tokenizer_config.json"]:
        shutil.copy(whole / name, out / "vicuna" / name)

    model = LlamaForCausalLM.from_pretrained(out / "vicuna", dtype=torch.float32, device_map="cpu").eval()
    for value in model.parameters():  # what is not quantised stays in the type of the file
        if value.is_floating_point():
            value.data = value.data.float()
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.compute_dtype, layer.compute_type_is_set = torch.float32, True
    ids = torch.tensor([IDS])
    settings = GenerationConfig(do_sample=False, max_new_tokens=STEPS, eos_token_id=None, pad_token_id=0)
    with torch.no_grad():
        grown = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        logits = model(grown, use_cache=False).logits
    chosen = logits[:, len(IDS) - 1:-1]
    best = chosen.topk(2, dim=-1).values
    tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "logits": logits[:, :len(IDS)],
               "greedy": grown[:, len(IDS):], "greedy_logits": chosen}
    (out / "golden").mkdir()
    save_file({f"words.{name}": value.contiguous().clone() for name, value in tensors.items()},
              out / "golden/golden.safetensors")
    facts = {"name": "words", "smallest_margin": float((best[..., 0] - best[..., 1]).min())}
    (out / "golden/cases.json").write_text(json.dumps({"cases": [facts]}, indent=1) + "\n")
    for path in out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
