"""What the golden folders of text models have in common: random weights, how they are stored, and what is recorded of
them. `nn::parity` reads it.

    pip install torch==2.15.0 transformers==5.23.0 safetensors tokenizers

The same versions give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils.chat_template_utils import render_jinja_template


def write(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = data if isinstance(data, str) else json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def randomise(model: PreTrainedModel, seed: int, dtype: torch.dtype,
              scaled: Callable[[str, torch.Tensor], torch.Tensor]) -> PreTrainedModel:
    """`scaled` makes a parameter's values of its name and of noise."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            value.copy_(scaled(name, torch.randn(value.shape, generator=random)))
            value.copy_(value.to(dtype))  # the recorded logits are those of the stored values
    model.generation_config = GenerationConfig()
    return model.eval()


def state_of(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    state = {name: value.to(dtype).contiguous() for name, value in sorted(model.state_dict().items())}
    if getattr(model.config, "tie_word_embeddings", False):
        del state["lm_head.weight"]
    return state


def save_weights(state: dict[str, torch.Tensor], folder: Path, shards: int) -> None:
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    files = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in list(state)[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": dict(sorted(files.items()))})


def render(template: str, messages: list[dict], **arguments) -> str:
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **arguments)[0][0]


@torch.no_grad()
def record(folder: Path, tokenizer: Tokenizer, model: PreTrainedModel, talks: list[list[dict]], steps: int,
           rendered: Callable[[list[dict]], dict[str, str]], penalty: float | None = None, batch: bool = True) -> None:
    """Every conversation by itself, and all of them as one `batch` padded on the left, with so many greedy tokens.

    `rendered` gives a conversation's `prompt`, and whatever else is to be written down of it. With a penalty for
    repetition, the greedy tokens of a conversation are recorded once more under it."""
    tensors, cases = {}, []
    folder.mkdir()

    def run(name: str, rows: list[list[int]], **facts) -> None:
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        settings = {"attention_mask": mask, "do_sample": False, "max_new_tokens": steps, "pad_token_id": 0}
        greedy = model.generate(ids, **settings)
        whole = torch.cat([mask, torch.ones_like(greedy[:, width:])], dim=1)
        positions = (whole.cumsum(-1) - 1).clamp(min=0)
        logits = model(greedy, attention_mask=whole, position_ids=positions, use_cache=False).logits
        chosen = logits[:, width - 1:-1]
        assert torch.equal(chosen.argmax(-1), greedy[:, width:])
        best = chosen.topk(2, dim=-1).values
        tensors.update({f"{name}.input_ids": ids, f"{name}.attention_mask": mask,
                        f"{name}.logits": logits[:, :width].clone(), f"{name}.greedy": greedy[:, width:].clone(),
                        f"{name}.greedy_logits": chosen.clone()})
        if len(rows) == 1 and penalty is not None:
            again = model.generate(ids, repetition_penalty=penalty, **settings)
            tensors[f"{name}.greedy_penalised"] = again[:, width:].clone()
            facts["repetition_penalty"] = penalty
        cases.append({"name": name, "smallest_margin": float((best[..., 0] - best[..., 1]).min()), **facts})

    texts = [rendered(talk) for talk in talks]
    rows = [tokenizer.encode(text["prompt"], add_special_tokens=False).ids for text in texts]
    for number, (talk, text, row) in enumerate(zip(talks, texts, rows)):
        run(f"talk{number}", [row], messages=talk, **text)
    if batch:
        run("batch", rows)
    save_file(tensors, folder / "golden.safetensors")
    write(folder / "cases.json", {"cases": cases})
