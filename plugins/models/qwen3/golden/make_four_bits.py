"""Makes a checkpoint as bitsandbytes quantises one to NF4 of an unquantised one with its recording, and records anew what
transformers computes with it, in fp32.

    pip install torch==2.15.0 transformers==5.23.0 bitsandbytes==0.50.2 safetensors
    python make_four_bits.py --of tied --out four_bits

That is how the folder `four_bits` was made; on a processor, the same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", type=Path, required=True, help="a checkpoint with a recording in `golden`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--double", action=argparse.BooleanOptionalAction, default=True, help="scales in bytes")
    parser.add_argument("--dtype", default="bfloat16", help="the type in which the weights are quantised")
    parser.add_argument("--shard", default="5GB", help="the largest size of a file")
    parser.add_argument("--skip", nargs="*", help="modules that stay as they are, instead of the head")
    parser.add_argument("--cases", nargs="*", default=["talk0"], help="cases to record; none: all")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=args.double,
                                llm_int8_skip_modules=args.skip)
    model = AutoModelForCausalLM.from_pretrained(args.of, quantization_config=config, dtype=getattr(torch, args.dtype),
                                                 device_map="cpu")
    model.save_pretrained(args.out, max_shard_size=args.shard)
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]:
        if (args.of / name).is_file():
            shutil.copy(args.of / name, args.out / name)
    model = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32, device_map="cpu").eval()
    for value in model.parameters():  # what is not quantised stays in the type of the file
        if value.is_floating_point():
            value.data = value.data.float()

    recorded = load_file(args.of / "golden" / "golden.safetensors")
    cases = json.loads((args.of / "golden" / "cases.json").read_text())["cases"]
    tensors, kept = {}, []
    for case in cases:
        name = case["name"]
        if args.cases and name not in args.cases:
            continue
        ids, mask = recorded[f"{name}.input_ids"], recorded[f"{name}.attention_mask"]
        steps = recorded[f"{name}.greedy"].shape[1]
        with torch.no_grad():
            greedy = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=steps,
                                    min_new_tokens=steps, pad_token_id=0)
            whole = torch.cat([mask, torch.ones_like(greedy[:, ids.shape[1]:])], dim=1)
            positions = (whole.cumsum(-1) - 1).clamp(min=0)
            logits = model(greedy, attention_mask=whole, position_ids=positions, use_cache=False).logits
        chosen = logits[:, ids.shape[1] - 1:-1]
        best = chosen.topk(2, dim=-1).values
        tensors |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask,
                    f"{name}.logits": logits[:, :ids.shape[1]].clone(), f"{name}.greedy": greedy[:, ids.shape[1]:].clone(),
                    f"{name}.greedy_logits": chosen.clone()}
        facts = {key: value for key, value in case.items() if key != "repetition_penalty"}
        kept.append(facts | {"smallest_margin": float((best[..., 0] - best[..., 1]).min())})
    (args.out / "golden").mkdir(exist_ok=True)
    save_file(tensors, args.out / "golden" / "golden.safetensors")
    (args.out / "golden" / "cases.json").write_text(json.dumps({"cases": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
