"""Records what transformers computes of a text checkpoint, for `host parity` to hold another engine against.

    python record_golden.py FOLDER                        # writes FOLDER/golden
    host parity --model openai -M base_url=http://127.0.0.1:8000/v1 FOLDER

Each case is a conversation: its token ids, the logits after each of them, and 24 greedy tokens. Needs torch and transformers.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

STEPS = 24
TALKS = {
    "chat": [{"role": "user", "content": "Name three colours of the sky."}],
    "system": [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "What is the capital of France?"}],
    "turns": [
        {"role": "user", "content": "Größe naïve 東京 🙂?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "What is 1,024 + 1?"},
    ],
}


@torch.no_grad()
def main(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    tensors, cases = {}, []
    for name, messages in TALKS.items():
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        # Nothing is inherited from the checkpoint's own settings, and nothing stops early.
        greedy = GenerationConfig(do_sample=False, max_new_tokens=STEPS, eos_token_id=None, pad_token_id=0)
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        logits, fresh = model(whole).logits, whole[:, ids.shape[1]:]
        chosen = logits[0, ids.shape[1] - 1 : -1].topk(2).values
        ends = [at for at, token in enumerate(fresh[0].tolist()) if token in stops]
        tensors[f"{name}.input_ids"] = ids.contiguous()
        tensors[f"{name}.logits"] = logits[:, : ids.shape[1]].contiguous()
        tensors[f"{name}.greedy"] = fresh.contiguous()
        cases.append({
            "name": name, "messages": messages, "prompt": prompt, "stops_after": ends[0] if ends else None,
            "smallest_margin": float((chosen[:, 0] - chosen[:, 1]).min()),
        })
    golden = folder / "golden"
    golden.mkdir(exist_ok=True)
    save_file(tensors, str(golden / "golden.safetensors"))
    (golden / "cases.json").write_text(json.dumps({"cases": cases}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
