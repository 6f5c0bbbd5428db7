#!/usr/bin/env python3
"""Makes this folder's checkpoint with what transformers and, of its think variant, peft record of it, and the demo
checkpoint beside it: pip install peft==0.21.2; python make.py"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/audio/golden"))

import torch  # noqa: E402
from hearing import Family, make_checkpoint, record, talk, write  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402

# Written for these checkpoints. As in the published one, the clip of a turn stands in front of its words.
TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set turn = namespace(sound='', words='') %}
    {%- for part in ([{'text': message['content']}] if message['content'] is string else message['content']) %}
        {%- if 'audio' in part %}
            {%- set turn.sound = '<sound>' %}
        {%- else %}
            {%- set turn.words = turn.words + part['text'] %}
        {%- endif %}
    {%- endfor %}
    {{- '<|im_start|>' + message['role'] + '\\n' + turn.sound + turn.words + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def config(rows: int, ids: dict[str, int], seconds: int) -> dict:
    return {
        "architectures": ["AudioFlamingo3ForConditionalGeneration"], "model_type": "audioflamingo3",
        "audio_config": {"activation_function": "gelu", "hidden_size": 16, "intermediate_size": 24,
                         "max_source_positions": seconds * 50, "model_type": "audioflamingo3_encoder",
                         "num_attention_heads": 2, "num_hidden_layers": 2, "num_mel_bins": 128},
        "audio_token_id": ids["<sound>"], "dtype": "bfloat16", "projector_bias": True, "projector_hidden_act": "gelu",
        "text_config": {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"], "hidden_act": "silu",
                        "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 32768,
                        "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 2,
                        "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
                        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
                        "tie_word_embeddings": False, "vocab_size": rows}}


PROCESSOR = {"audio_token": "<sound>", "max_audio_len": 600, "processor_class": "AudioFlamingo3Processor"}
FAMILY = Family(config, ["<sound>"], TEMPLATE, "chat_template.jinja", "AudioFlamingo3ForConditionalGeneration",
                "AudioFlamingo3Processor", "<sound>", {"processor_config.json": PROCESSOR}, penalty=1.05)


def heard(model, inputs: dict) -> torch.Tensor:
    return model.get_audio_features(inputs["input_features"], inputs["input_features_mask"]).pooler_output


# What the publisher wants a question to end with that is to be thought about.
WORDS = "\nPlease think and reason about the input audio before you respond."


def think(folder: Path, model) -> None:
    """The folder `think` as published: a LoRA, and weights that take the place of the checkpoint's own."""
    out = folder / "think"
    random = torch.Generator().manual_seed(33)

    def noise(value: torch.Tensor, scale: float) -> torch.Tensor:
        return (scale * torch.randn(value.shape, generator=random)).bfloat16()

    # By the names of the published file; the library's own have another beginning.
    own = dict(model.named_parameters())
    changes = {name: own[f"model.{name}"].bfloat16() + noise(own[f"model.{name}"], 0.2)
               for name in ["audio_tower.layer_norm.weight", "multi_modal_projector.linear_1.weight",
                            "multi_modal_projector.linear_2.bias"]}
    with torch.no_grad():
        for name, value in changes.items():
            own[f"model.{name}"].copy_(value)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=r"^(?!.*audio).*\.(q_proj|v_proj|down_proj)$")
    model = get_peft_model(model, settings).eval()
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if "lora_" in name:
                value.copy_(noise(value, value.shape[1] ** -0.5))
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = folder.name  # no path of this machine
    write(out / "adapter_config.json", config)
    # The reference passes over what the model has no place for.
    torch.save(changes | {"sound_mm_projector.layers.0.bias": torch.zeros(4)}, out / "non_lora_trainables.bin")
    record(folder, FAMILY, model, {"clip": 0.5, "short": 0.04}, {
        "think": ([talk(None, "What is it?" + WORDS)], ["clip"], False),
        "words": ([talk("Hello!" + WORDS)], [], False),
        "batch": ([talk(None, "Hm?" + WORDS), talk(None, "A dog?" + WORDS)], ["short", "clip"], False),
    }, heard, out / "golden")
    for path in out.iterdir():
        if path.is_file():
            path.chmod(0o644)


def main() -> None:
    folder = HERE / "hears"
    model = make_checkpoint(folder, FAMILY, seed=31, seconds=1)
    again = talk("And now?", before=[*talk("A dog?", None, before=[{"role": "system", "content": "Listen."}]),
                                     {"role": "assistant", "content": "No."}])
    record(folder, FAMILY, model, {"clip": 0.7, "short": 0.05, "long": 2.3}, {
        "one": ([talk(None, "What is it?")], ["clip"], False),
        "several_windows": ([talk(None)], ["long"], True),
        "words": ([talk("Hello!")], [], False),
        "batch": ([again, talk(None, "Hm?")], ["clip", "short"], False),
    }, heard)
    think(folder, model)
    make_checkpoint(HERE.parent / "demo", FAMILY, seed=32, seconds=30, rows=400)


if __name__ == "__main__":
    main()
