#!/usr/bin/env python3
"""Records short training runs of the other classes that the plugin `qwen3` reads: in `others/`, a tiny checkpoint each.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors tokenizers
    python make.py                                   # those that are committed
    python make.py --out DIR --seed 70 --larger      # others: `QWEN3_TRAINING=DIR/phi3:DIR/glm4 cargo test -p qwen3`

How a run is computed and compared with transformers' Trainer is `runs.py`. The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

from runs import HERE, LINEAR, ROWS, Runs, begin, emptied
from recording import randomise, save_weights, state_of, write  # found by `runs`

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
            "original_max_position_embeddings": 64}}, LINEAR, ("full", "qlora")),
    # A tied head, and biases everywhere.
    "llama-tied": ("llama", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}, LINEAR, ("full", "lora")),
    # A window in all layers, heads of another size than their share.
    "mistral": ("mistral", "MistralForCausalLM", {"sliding_window": 5, "head_dim": 12}, LINEAR, ("full", "qlora")),
    # A layer that does not know positions.
    "smollm3": ("smollm3", "SmolLM3ForCausalLM", {"no_rope_layers": [1, 0], "rope_theta": 5000000.0}, LINEAR, ("full", "lora")),
    # Norms behind both halves and none in front; queries and keys are normalised over all heads.
    "olmo2": ("olmo2", "Olmo2ForCausalLM", {"tie_word_embeddings": False}, LINEAR, ("full", "lora")),
    # Four multipliers.
    "granite": ("granite", "GraniteForCausalLM", {
        "embedding_multiplier": 12.0, "attention_multiplier": 0.2, "residual_multiplier": 0.22, "logits_scaling": 4.0}, LINEAR,
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


def make_checkpoint(folder: Path, model_type: str, architecture: str, fields: dict, seed: int, words: int) -> None:
    """Random weights and as many words: these are the tokens."""
    marks = ["<|end|>", "<|user|>", "<|assistant|>"]
    # Six rows of the table stay without a token, as in published ones.
    vocabulary = {f"w{number}": number for number in range(words - len(marks) - 6)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece(prefix="")
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "others")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--larger", action="store_true", help="four times the width, twice the layers, and all cases of all")
    parser.add_argument("--only", choices=CLASSES)
    arguments = parser.parse_args()
    begin()
    for place, (name, (model_type, architecture, fields, linears, kept)) in enumerate(CLASSES.items()):
        cases = ALL if arguments.larger else kept
        if arguments.only not in (None, name) or not cases:
            continue
        folder, seed = arguments.out / name, arguments.seed + place
        emptied(folder)
        if arguments.larger:
            fields = fields | LARGER | ({"no_rope_layers": [1, 1, 0, 0]} if "no_rope_layers" in fields else {})
        make_checkpoint(folder, model_type, architecture, fields, seed, 320 if arguments.larger else 80)
        # Few words, so that there is something to learn in a few steps.
        words = (torch.randperm(60, generator=torch.Generator().manual_seed(seed))[:16] + 4).tolist()
        rows = [make_row(seed, number, words) for number in range(ROWS)]
        held_out = [make_row(seed, number, words) for number in (500, 501, 503)]
        turns_whole = not fields.get("attention_bias") or "partial_rotary_factor" not in fields
        of_case = {case: case_of(case, linears, turns_whole) for case in cases}
        Runs(folder, seed, rows, held_out, emptied(folder / "training")).record(name, of_case)


if __name__ == "__main__":
    main()
