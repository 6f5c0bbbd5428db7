#!/usr/bin/env python3
"""Makes this folder's checkpoint with what transformers records of it, and the demo checkpoint beside it: python make.py"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/audio/golden"))

import torch  # noqa: E402
from hearing import Family, make_checkpoint, record, talk  # noqa: E402

# Written for these checkpoints. As the published one it numbers the clips and ends each with a newline.
TEMPLATE = """\
{%- set clips = namespace(count=0) %}
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- for part in ([{'text': message['content']}] if message['content'] is string else message['content']) %}
        {%- if 'audio' in part %}
            {%- set clips.count = clips.count + 1 %}
            {{- 'Audio ' ~ clips.count ~ ': <|audio_bos|><|AUDIO|><|audio_eos|>\\n' }}
        {%- else %}
            {{- part['text'] }}
        {%- endif %}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def config(rows: int, ids: dict[str, int], seconds: int) -> dict:
    return {
        "architectures": ["Qwen2AudioForConditionalGeneration"], "model_type": "qwen2_audio",
        "audio_config": {"activation_function": "gelu", "d_model": 16, "encoder_attention_heads": 2,
                         "encoder_ffn_dim": 24, "encoder_layers": 2, "max_source_positions": seconds * 50,
                         "model_type": "qwen2_audio_encoder", "num_mel_bins": 128, "scale_embedding": False},
        "audio_token_index": ids["<|AUDIO|>"],
        "text_config": {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"], "hidden_size": 32,
                        "intermediate_size": 48, "max_position_embeddings": 8192, "model_type": "qwen2",
                        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 4,
                        "rms_norm_eps": 1e-05, "rope_theta": 10000, "vocab_size": rows},
        "torch_dtype": "bfloat16", "vocab_size": rows}


FAMILY = Family(config, ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"], TEMPLATE, "chat_template.json",
                "Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor", "<|AUDIO|>")


def heard(model, inputs: dict) -> torch.Tensor:
    """The vectors in the place of words, one clip at a time, so that the mask is plain."""
    rows = []
    for features, mask in zip(inputs["input_features"], inputs["feature_attention_mask"]):
        steps, all_steps = (int(mask.sum()) - 1) // 2 + 1, features.shape[-1] // 2
        seen = torch.full((1, 1, all_steps, all_steps), torch.finfo(torch.float32).min)
        seen[..., :steps] = 0.0
        out = model.model.audio_tower(features[None], attention_mask=seen).last_hidden_state
        rows.append(model.model.multi_modal_projector(out)[0, :steps // 2])
    return torch.cat(rows)


def main() -> None:
    folder = HERE / "hears"
    model = make_checkpoint(folder, FAMILY, seed=21, seconds=1)
    question, again = talk(None, "What is it?"), talk("And now?", before=[
        *talk(None, "A dog?", before=[{"role": "system", "content": "Listen."}]),
        {"role": "assistant", "content": "No."}])
    record(folder, FAMILY, model, {"clip": 0.7, "short": 0.05, "long": 1.2}, {
        "one": ([question], ["clip"], False),
        "longer_than_the_window": ([talk(None)], ["long"], True),
        "two_clips": ([talk("First.", None, "Then.", None)], ["short", "clip"], False),
        "later": ([again], ["clip"], False),
        "batch": ([question, talk("Hello!")], ["clip"], False),
    }, heard)
    make_checkpoint(HERE.parent / "demo", FAMILY, seed=22, seconds=30, rows=400)


if __name__ == "__main__":
    main()
