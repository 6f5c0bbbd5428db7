#!/usr/bin/env python3
"""Makes this folder's checkpoints with their recorded logits, and the demo checkpoint beside it.

    pip install torch==2.15.0 transformers==5.23.0 safetensors tokenizers
    python make.py

All weights are random, so what the models say means nothing; they have the architecture, the files and the
tensor names of the published ones. The same versions give the same bytes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/parity/golden"))

import recording  # noqa: E402
import torch  # noqa: E402
from recording import randomise, render, save_weights, state_of, write  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel  # noqa: E402

STEPS = 12  # greedy tokens recorded for each case

# What the byte-pair merges are learnt from; any text can be tokenized, since every byte is a token.
TEXTS = [
    "Multiple Choice question: Which of these is the best conductor of electricity? - Wood=A - Glass=B - Copper=C",
    "Respond only with the letter of the correct answer. Question: Answer: The answer is A. The answer is D.",
    "A student measured the mass of the rock. Plants make food from light, water and air. The Moon orbits the Earth.",
    "Listen to the recording. What is the emotion of the speaker? Which animal makes this sound?",
]

# The pattern by which the published tokenizer cuts text before merging.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = ["<tool_call>", "</tool_call>", "<think>", "</think>"]  # kept when text is decoded

# Written for these checkpoints. It renders plain conversations as the published template does: no system text of its
# own, reasoning dropped from earlier turns, an empty reasoning in front of the answer when thinking is off.
TEMPLATE = """\
{%- if tools %}
    {{- raise_exception('these tiny checkpoints know no tools') }}
{%- endif %}
{%- set spot = namespace(query=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- set spot.query = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- set words = message.content %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = message.reasoning_content or '' %}
        {%- if not reasoning and '</think>' in words %}
            {%- set reasoning = words.split('</think>')[0].split('<think>')[-1] %}
            {%- set words = words.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > spot.query and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
            {%- set words = words.lstrip('\\n') %}
        {%- endif %}
    {%- endif %}
    {{- words + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

# The same without reasoning, and with the system text that Qwen2.5 brings along.
PLAIN = """\
{%- if default_system is defined and messages[0].role != 'system' %}
    {{- '<|im_start|>system\\n' + default_system + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
SYSTEM = "{%- set default_system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}\n"

TALKS = [
    [{"role": "user", "content": "Which is heavier, a kilogram of iron or of feathers?"}],
    [{"role": "system", "content": "Be brief."},
     {"role": "user", "content": "Zähle bis 3: 1\u20e3, 二, \u00bd\u2026\n\n\tif x != 'y':  pass  # \U0001f980"}],
    [{"role": "user", "content": "Name a planet."},
     {"role": "assistant", "content": "<think>\nMars is one.\n</think>\n\nMars."},
     {"role": "user", "content": " Another  one? "}],
]


def make_tokenizer(folder: Path, rows: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    # Three rows of the table stay without a token, as in the published ones.
    size = rows - len(MARKS) - len(WORDS) - 3
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def scaled(name: str, noise: torch.Tensor) -> torch.Tensor:
    """Weights on which mistakes show: norms are not one, biases are not zero."""
    if "norm" in name:
        return 1 + 0.2 * noise
    if noise.ndim == 1:
        return 0.1 * noise
    return noise * (0.4 if "embed" in name else 1.2 / noise.shape[1] ** 0.5)


def make_checkpoint(folder: Path, seed: int, dtype: torch.dtype, shards: int = 1, rows: int = 320,
                    template: str = TEMPLATE, without: tuple[str, ...] = (), **changes):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer(folder, rows)
    end, turn = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    fields = {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": end, "eos_token_id": turn, "head_dim": 16, "hidden_act": "silu", "hidden_size": 32,
        "initializer_range": 0.02, "intermediate_size": 64, "max_position_embeddings": 40960,
        "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 4, "num_hidden_layers": 2,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
        "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True, "use_sliding_window": False, "vocab_size": rows, **changes,
    }
    write(folder / "config.json", {name: value for name, value in fields.items() if name not in without})
    write(folder / "generation_config.json", {
        "bos_token_id": end, "do_sample": True, "eos_token_id": [turn, end], "pad_token_id": end,
        "temperature": 0.6, "top_k": 20, "top_p": 0.95})
    write(folder / "tokenizer_config.json", {
        "bos_token": None, "chat_template": template, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer", "unk_token": None})
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    save_weights(state_of(randomise(model, seed, dtype, scaled), dtype), folder, shards)
    return tokenizer, model


def record(folder: Path, tokenizer: Tokenizer, model: PreTrainedModel, template: str = TEMPLATE,
           talks: list[list[dict]] = TALKS) -> None:
    def rendered(talk: list[dict]) -> dict[str, str]:
        return {"prompt": render(template, talk),
                "prompt_without_thinking": render(template, talk, enable_thinking=False)}

    recording.record(folder / "golden", tokenizer, model, talks, STEPS, rendered, penalty=1.3)


def demo_qwen2() -> None:
    """The demo of Qwen2.5, whose class and template are others than Qwen3's."""
    make_checkpoint(HERE.parent / "demo-qwen2.5", seed=16, dtype=torch.bfloat16, rows=384, template=SYSTEM + PLAIN,
                    without=("attention_bias", "head_dim"), architectures=["Qwen2ForCausalLM"], model_type="qwen2",
                    hidden_size=64, intermediate_size=128)


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # As the published small models are: one file, tied head.
    folder = HERE / "tied"
    parts = make_checkpoint(folder, seed=11, dtype=torch.float32)
    record(folder, *parts)
    # Everything else that the architecture allows: several files in bf16, own head, biases, a window, scaled positions.
    folder = HERE / "sharded"
    parts = make_checkpoint(folder, seed=12, dtype=torch.bfloat16, shards=3, tie_word_embeddings=False,
                            attention_bias=True, num_hidden_layers=3, num_key_value_heads=1, head_dim=8,
                            use_sliding_window=True, sliding_window=9, max_window_layers=1,
                            rope_scaling={"rope_type": "linear", "factor": 2.0}, rope_theta=10000)
    record(folder, *parts)
    # The other classes that the plugin reads, small, with what each leaves out of its config, and a scaling of their
    # own with a trained length that the conversations pass.
    folder = HERE / "qwen2"
    template = SYSTEM + PLAIN
    parts = make_checkpoint(folder, seed=14, dtype=torch.float16, rows=288, template=template,
                            without=("attention_bias", "head_dim"), architectures=["Qwen2ForCausalLM"],
                            model_type="qwen2", rope_theta=10000,
                            rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32})
    record(folder, *parts, template, TALKS[:2])
    folder = HERE / "llama"
    parts = make_checkpoint(folder, seed=15, dtype=torch.bfloat16, template=PLAIN,
                            without=("head_dim", "max_window_layers", "sliding_window", "use_sliding_window"),
                            architectures=["LlamaForCausalLM"], model_type="llama", tie_word_embeddings=False,
                            rope_theta=10000, rope_scaling={
                                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 64})
    record(folder, *parts, PLAIN, TALKS[1:])
    make_checkpoint(HERE.parent / "demo", seed=13, dtype=torch.bfloat16, rows=512, hidden_size=64,
                    intermediate_size=128, head_dim=32)
    demo_qwen2()
    for path in HERE.parent.rglob("*.safetensors"):
        path.chmod(0o644)  # the writer makes them its owner's alone


if __name__ == "__main__":
    main()
