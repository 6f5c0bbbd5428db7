#!/usr/bin/env python3
"""Makes this folder's checkpoint with what transformers records of it, and the demo checkpoint beside it: python make.py"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/audio/golden"))

import torch  # noqa: E402
import transformers  # noqa: E402
from hearing import RATE, Family, make_checkpoint, record, talk  # noqa: E402

# Written for these checkpoints. As in the published one, clips have no number and no newline.
TEMPLATE = """\
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- for part in ([{'text': message['content']}] if message['content'] is string else message['content']) %}
        {{- '<|audio_bos|><|AUDIO|><|audio_eos|>' if 'audio' in part else part['text'] }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
MARKS = ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>"]


def config(rows: int, ids: dict[str, int], seconds: int) -> dict:
    thinker = {
        "model_type": "qwen2_5_omni_thinker",
        "audio_config": {"activation_function": "gelu", "d_model": 16, "encoder_attention_heads": 2,
                         "encoder_ffn_dim": 24, "encoder_layers": 2, "max_source_positions": 1500,
                         "model_type": "qwen2_5_omni_audio_encoder", "n_window": seconds * 50, "num_mel_bins": 128,
                         "output_dim": 32},
        "audio_token_index": ids["<|AUDIO|>"], "audio_start_token_id": ids["<|audio_bos|>"],
        "audio_end_token_id": ids["<|audio_eos|>"], "image_token_index": ids["<|IMAGE|>"],
        "video_token_index": ids["<|VIDEO|>"], "vision_start_token_id": ids["<|vision_bos|>"],
        "vision_end_token_id": ids["<|vision_eos|>"], "eos_token_id": ids["<|im_end|>"],
        "position_id_per_seconds": 25, "seconds_per_chunk": 2,
        "text_config": {"hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48,
                        "max_position_embeddings": 32768, "model_type": "qwen2_5_omni_text", "num_attention_heads": 4,
                        "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
                        "rope_scaling": {"mrope_section": [1, 2, 1], "rope_type": "default", "type": "default"},
                        "rope_theta": 1000000.0, "tie_word_embeddings": False, "vocab_size": rows},
        "vision_config": {"depth": 1, "fullatt_block_indexes": [0], "hidden_size": 16, "intermediate_size": 16,
                          "model_type": "qwen2_5_omni_vision_encoder", "num_heads": 2, "out_hidden_size": 32,
                          "patch_size": 2, "spatial_merge_size": 1, "temporal_patch_size": 1}}
    return {"architectures": ["Qwen2_5OmniModel"], "enable_audio_output": False, "enable_talker": False,
            "model_type": "qwen2_5_omni", "thinker_config": thinker, "torch_dtype": "bfloat16"}


class Processor:
    """The published one wants image and video processors beside it; of sound and words it makes the same as this."""

    def __init__(self, folder: Path) -> None:
        self.extract = transformers.WhisperFeatureExtractor.from_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def __call__(self, text, audio, **_) -> dict:
        self.tokenizer.padding_side = "left"
        inputs, counts = {}, []
        if audio:
            got = self.extract(audio, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
            frames = got["attention_mask"].sum(-1)
            # Padded to five minutes; what is behind the longest clip is never read.
            inputs = {"input_features": got["input_features"][..., :frames.max()],
                      "feature_attention_mask": got["attention_mask"][:, :frames.max()].long()}
            counts = [((count - 1) // 2 + 1) // 2 for count in frames.tolist()]
        counts = iter(counts)
        filled = ["".join(piece if n == 0 else "<|AUDIO|>" * next(counts) + piece
                          for n, piece in enumerate(one.split("<|AUDIO|>"))) for one in text]
        ids = self.tokenizer(filled, return_tensors="pt", padding=True, add_special_tokens=False)
        return {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"], **inputs}


FAMILY = Family(config, MARKS, TEMPLATE, "chat_template.json", "Qwen2_5OmniForConditionalGeneration", Processor,
                "<|AUDIO|>", penalty=1.1, longest=300)


def heard(model, inputs: dict) -> torch.Tensor:
    return model.get_audio_features(inputs["input_features"], inputs["feature_attention_mask"]).last_hidden_state


def main() -> None:
    folder = HERE / "hears"
    model = make_checkpoint(folder, FAMILY, seed=41, seconds=1).thinker
    model.generation_config = transformers.GenerationConfig()
    question = talk(None, "What is it?", before=[{"role": "system", "content": "Listen."}])
    record(folder, FAMILY, model, {"clip": 0.7, "short": 0.05, "long": 2.375}, {
        "one": ([question], ["clip"], True),
        "several_blocks": ([talk(None)], ["long"], False),
        "two_clips": ([talk("First.", None, "Then.", None)], ["short", "clip"], False),
        "words": ([talk("Hello!")], [], False),
        "batch": ([question, talk(None, "Hm?")], ["short", "clip"], False),
    }, heard)
    make_checkpoint(HERE.parent / "demo", FAMILY, seed=42, seconds=2, rows=400)


if __name__ == "__main__":
    main()
