#!/usr/bin/env python3
"""Makes this folder's checkpoints with their recorded logits, and the demo checkpoint beside it.

    pip install torch==2.15.0 transformers==5.23.0 safetensors tokenizers
    python make.py

All weights are random, so what the models say means nothing; they have the architecture, the files and the
tensor names of the published ones. The same versions give the same bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/parity/golden"))

import recording  # noqa: E402
import torch  # noqa: E402
from recording import randomise, render, save_weights, state_of, write  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import Gemma3ForCausalLM, Gemma3TextConfig  # noqa: E402

STEPS = 8  # greedy tokens recorded for each case

# What the merges are learnt from; a character that is not in here becomes the tokens of its bytes.
TEXTS = [
    "Multiple Choice question: Which of these is the best conductor of electricity? - Wood=A - Glass=B - Copper=C",
    "Respond only with the letter of the correct answer. Question: Answer: The answer is A. The answer is D.",
    "A student measured the mass of the rock. Plants make food from light, water and air. The Moon orbits the Earth.",
]

HEAD = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>",
        "<start_of_image>", "<end_of_image>"]
SOFT = "<image_soft_token>"  # lies past the table of the text models, as published
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

# Written for these checkpoints. It renders plain conversations as the published template does: the system text
# stands in front of the first user turn, and turns alternate.
TEMPLATE = """\
{{- bos_token }}
{%- set lead = namespace(words='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set lead.words = message.content + '\\n\\n' %}
    {%- else %}
        {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
        {{- lead.words + message.content | trim + '<end_of_turn>\\n' }}
        {%- set lead.words = '' %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<start_of_turn>model\\n' }}
{%- endif %}
"""

TALKS = [
    [{"role": "system", "content": "Be brief."},
     {"role": "user", "content": " Zähle bis 3:  \u4e8c, \u00bd\u2026\n\n\tif x: pass \U0001f980 "}],
    [{"role": "user", "content": "Name a planet."}, {"role": "assistant", "content": "Mars."},
     {"role": "user", "content": "Another  one?"}],
]


def make_tokenizer(folder: Path, rows: int) -> Tokenizer:
    """Byte-pair merges over characters, blanks written as U+2581, and bytes for characters that are not known."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=rows, special_tokens=HEAD + BYTES, show_progress=False,
                                  initial_alphabet=["\u2581", "\n"])
    # Word by word: the blanks are gone before the tokenizer would cut at them, and merges must not span words.
    tokenizer.train_from_iterator((" " + word for text in TEXTS for word in text.split(" ")), trainer)
    # Bytes are ordinary tokens: a text that spells one is not that byte.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in HEAD]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_tokens([AddedToken(SOFT, special=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B:1", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))])
    assert tokenizer.token_to_id(SOFT) == rows, tokenizer.token_to_id(SOFT)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights on which mistakes show: norms are not what they begin as, biases are not zero."""
    if "norm" in name or noise.ndim == 1:
        return 0.2 * noise
    return noise * (0.05 if "embed" in name else 1.2 / noise.shape[1] ** 0.5)


def make_checkpoint(folder: Path, seed: int, dtype: torch.dtype, multimodal: bool = False, rows: int = 320, **changes):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(folder, rows)
    bos, eos, pad, turn = (tokenizer.token_to_id(f"<{name}>") for name in ("bos", "eos", "pad", "end_of_turn"))
    fields = {
        "attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 64, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 1,
        "query_pre_attn_scalar": 24, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": 8, "sliding_window_pattern": 3, "vocab_size": rows, **changes,
    }
    config = Gemma3TextConfig(**{k: v for k, v in fields.items() if k != "model_type"})
    model = Gemma3ForCausalLM._from_config(config, attn_implementation="eager", dtype=torch.float32)
    state = state_of(randomise(model, seed, dtype, scaled), dtype)
    shared = {"eos_token_id": [eos, turn], "torch_dtype": str(dtype).removeprefix("torch.")}
    write(folder / "config.json", {
        "architectures": ["Gemma3ForConditionalGeneration"], "image_token_index": rows, "model_type": "gemma3",
        "text_config": fields, "vision_config": {"model_type": "siglip_vision_model"}, **shared,
    } if multimodal else {"architectures": ["Gemma3ForCausalLM"], **fields, **shared})
    write(folder / "generation_config.json", {
        "bos_token_id": bos, "do_sample": True, "eos_token_id": [eos, turn], "pad_token_id": pad, "top_k": 64,
        "top_p": 0.95})
    write(folder / "tokenizer_config.json", {
        "add_bos_token": True, "bos_token": "<bos>", "chat_template": TEMPLATE, "eos_token": "<eos>",
        "pad_token": "<pad>", "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>"})
    if multimodal:
        # Two files, and beside the text tower what a reader of text passes over.
        state = {f"language_model.{name}": value for name, value in state.items()}
        state["multi_modal_projector.mm_soft_emb_norm.weight"] = torch.zeros(4, dtype=dtype)
        state["vision_tower.vision_model.post_layernorm.weight"] = torch.ones(4, dtype=dtype)
    save_weights(state, folder, 2 if multimodal else 1)
    return tokenizer, model


def record(folder: Path, tokenizer: Tokenizer, model: Gemma3ForCausalLM) -> None:
    def rendered(talk: list[dict]) -> dict[str, str]:
        return {"prompt": render(TEMPLATE, talk, bos_token="<bos>")}

    recording.record(folder / "golden", tokenizer, model, TALKS, STEPS, rendered)


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # As the small models are: one file, text alone.
    folder = HERE / "text"
    parts = make_checkpoint(folder, seed=21, dtype=torch.float32)
    record(folder, *parts)
    # As the larger ones are, scaled positions included; besides, capped logits, which no published config asks for.
    # Capped attention scores are not in here: the reference reads that field and does not apply it.
    folder = HERE / "multimodal"
    parts = make_checkpoint(folder, seed=22, dtype=torch.bfloat16, multimodal=True, num_key_value_heads=2,
                            rope_scaling={"rope_type": "linear", "factor": 8.0}, final_logit_softcapping=2.0)
    record(folder, *parts)
    make_checkpoint(HERE.parent / "demo", seed=23, dtype=torch.bfloat16, rows=448, hidden_size=64,
                    intermediate_size=128, head_dim=32, sliding_window=64)
    for path in [*HERE.rglob("*.safetensors"), *(HERE.parent / "demo").glob("*.safetensors")]:
        path.chmod(0o644)  # the writer makes them its owner's alone


if __name__ == "__main__":
    main()
