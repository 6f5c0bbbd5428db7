#!/usr/bin/env python3
"""Makes this folder's checkpoints, one a family, each with its recorded logits and greedy tokens.

    pip install torch==2.15.0 transformers==5.23.0 safetensors tokenizers
    python make.py                                 # those that are committed
    python make.py --out DIR --seed 70 --larger    # others like them: `ZOO_GOLDEN=DIR cargo test -p zoo`

All weights are random, drawn so that mistakes show: biases are not zero and norms not one. The files have the field names
of the published ones and the tensor names that transformers writes. The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/parity/golden"))

import recording  # noqa: E402
import torch  # noqa: E402
from recording import randomise, render, write  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

STEPS = 8  # greedy tokens recorded 
END = "<|end|>"
TEMPLATE = ("{%- for message in messages %}{{- message.role + ': ' + message.content + '\\n' }}{%- endfor %}"
            "{%- if add_generation_prompt %}{{- 'assistant:' }}{%- endif %}")
TALKS = [[{"role": "user", "content": "1 + 2?"}]]

# What most of the families share. Tiny tables: a token a character, and the head is most of a file.
USUAL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "rope_theta": 10000.0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "decoder_sparse_step": 1,
           "max_window_layers": 2, "sliding_window": None, "use_sliding_window": False}

# A family by its `model_type`: its architecture, and the fields of its config.json as published files have them.
FAMILIES: dict[str, tuple[str, dict]] = {
    "gemma": ("GemmaForCausalLM", USUAL | {
        "head_dim": 8, "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6}),
    "gemma2": ("Gemma2ForCausalLM", USUAL | {
        "head_dim": 8, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "sliding_window": 64}),
    "stablelm": ("StableLmForCausalLM", USUAL | {
        "hidden_act": "silu", "partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5, "use_qkv_bias": True,
        "use_cache": True, "tie_word_embeddings": False}),
    "starcoder2": ("Starcoder2ForCausalLM", USUAL | {
        "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5, "use_bias": True, "sliding_window": 64}),
    "phi": ("PhiForCausalLM", USUAL | {
        "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "qk_layernorm": False,
        "num_key_value_heads": None, "tie_word_embeddings": False}),
    "olmo": ("OlmoForCausalLM", USUAL | {
        "hidden_act": "silu", "attention_bias": False, "clip_qkv": 1.5, "tie_word_embeddings": False}),
    "mixtral": ("MixtralForCausalLM", USUAL | {
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "intermediate_size": 12, "num_local_experts": 4, "num_experts_per_tok": 2,
        "sliding_window": None, "tie_word_embeddings": False, "rope_theta": 1e6}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", USUAL | EXPERTS | {
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "shared_expert_intermediate_size": 12, "norm_topk_prob": False,
        "sliding_window": 4096, "tie_word_embeddings": False, "rope_theta": 1e6}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", USUAL | EXPERTS | {
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "head_dim": 8, "attention_bias": False, "norm_topk_prob": True,
        "tie_word_embeddings": False, "rope_theta": 1e6}),
    "mamba": ("MambaForCausalLM", {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "state_size": 16, "conv_kernel": 4, "expand": 2,
        "time_step_rank": 1, "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True, "hidden_act": "silu"}),
    "mamba2": ("Mamba2ForCausalLM", {
        "hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4, "expand": 2, "head_dim": 8,
        "num_heads": 4, "n_groups": 1, "layer_norm_epsilon": 1e-5, "use_bias": False, "use_conv_bias": True,
        "hidden_act": "silu", "rms_norm": True, "chunk_size": 8, "tie_word_embeddings": True}),
    "falcon": ("FalconForCausalLM", {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "layer_norm_epsilon": 1e-5, "alibi": False,
        "bias": False, "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False}),
    "gpt_bigcode": ("GPTBigCodeForCausalLM", {
        "n_embd": 16, "n_head": 4, "n_inner": 24, "n_layer": 2, "n_positions": 128, "layer_norm_epsilon": 1e-5,
        "multi_query": True, "activation_function": "gelu_pytorch_tanh"}),
    "helium": ("HeliumForCausalLM", USUAL | {
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "head_dim": 4, "rms_norm_eps": 1e-8,
        "tie_word_embeddings": False, "rope_theta": 100000.0}),
    "deepseek_v2": ("DeepseekV2ForCausalLM", USUAL | {
        "hidden_act": "silu", "attention_bias": False, "first_k_dense_replace": 1, "kv_lora_rank": 8, "moe_intermediate_size": 8,
        "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 4, "n_shared_experts": 2, "norm_topk_prob": False,
        "num_experts_per_tok": 2, "num_key_value_heads": 4, "q_lora_rank": None, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
        "rms_norm_eps": 1e-6, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "tie_word_embeddings": False,
        "topk_group": 1, "topk_method": "greedy", "v_head_dim": 8, "rope_scaling": {
            "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
            "original_max_position_embeddings": 64, "type": "yarn"}}),
}
# Twice the width and another number of layers, in the words of any family.
LARGER = {"hidden_size": 32, "n_embd": 32, "num_hidden_layers": 3, "n_layer": 3, "num_heads": 8}
# What follows from the width in a family.
WIDER = {"helium": {"head_dim": 8}, "mamba": {"intermediate_size": 64, "time_step_rank": 2}}


def make_tokenizer(folder: Path) -> Tokenizer:
    """A token a byte, of printable ASCII alone; everything else is `<unk>`."""
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = bytes_of.pre_tokenize_str("\n" + "".join(map(chr, range(32, 127))))
    words = ["<unk>", END, *"".join(letter for letter, _ in letters)]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = bytes_of
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in words[:2]])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    return tokenizer


def scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights on which mistakes show: norms are not one, biases are not zero."""
    if "norm" in name or "ln_" in name or name.endswith(".D"):
        return (1 if noise.ndim == 1 and not name.endswith("bias") else 0) + 0.2 * noise
    if name.endswith("A_log"):
        return 0.5 + 0.4 * noise
    if noise.ndim == 1:
        return 0.1 * noise
    if "embed" in name or "wte" in name or "wpe" in name:
        return 0.4 * noise
    return noise * 1.2 / noise.shape[-1] ** 0.5


def make_checkpoint(folder: Path, seed: int, architecture: str, fields: dict):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(folder)
    end = tokenizer.token_to_id(END)
    fields = {"architectures": [architecture], "model_type": folder.name, "vocab_size": tokenizer.get_vocab_size(),
              "bos_token_id": end, "eos_token_id": end, "torch_dtype": "bfloat16"} | fields
    write(folder / "config.json", fields)
    write(folder / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
    write(folder / "tokenizer_config.json", {"chat_template": TEMPLATE, "eos_token": END, "tokenizer_class": "PreTrainedTokenizerFast"})
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), attn_implementation="eager", dtype=torch.float32)
    randomise(model, seed, torch.bfloat16, scaled)
    # Its own writer knows what experts and tied heads are called in files. A copy, since angles would be rounded as well.
    with TemporaryDirectory() as written:
        deepcopy(model).to(torch.bfloat16).save_pretrained(written)
        shutil.copy(Path(written) / "model.safetensors", folder)
    (folder / "model.safetensors").chmod(0o644)
    return tokenizer, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--larger", action="store_true")
    parser.add_argument("--only", choices=FAMILIES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for number, (name, (architecture, fields)) in enumerate(FAMILIES.items()):
        if arguments.only not in (None, name):
            continue
        if arguments.larger:
            fields = fields | {field: value for field, value in LARGER.items() if field in fields} | WIDER.get(name, {})
        folder = arguments.out / name
        tokenizer, model = make_checkpoint(folder, arguments.seed + number, architecture, fields)
        recording.record(folder / "golden", tokenizer, model, TALKS, STEPS,
                         lambda talk: {"prompt": render(TEMPLATE, talk)}, batch=False)
        (folder / "golden/golden.safetensors").chmod(0o644)
        print(name, flush=True)


if __name__ == "__main__":
    main()
