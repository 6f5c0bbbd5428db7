"""One piece of hearing by transformers, as often as each line that comes in says; hearing.py starts it and says what."""
import sys
import time

import numpy as np
import torch
from transformers import (
    Qwen2_5OmniAudioEncoderConfig, Qwen2AudioEncoder, Qwen2AudioEncoderConfig, WhisperFeatureExtractor,
)
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

what, dtype, seconds, clips, layers = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
n = np.arange(seconds * 16_000, dtype=np.float32)
sound = np.sin(n * 0.05) * np.cos(n * 0.0007)
extract = WhisperFeatureExtractor(feature_size=80 if what == "features80" else 128)
kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]


def features(**how):
    return extract([sound] * clips, sampling_rate=16_000, return_attention_mask=True, return_tensors="pt", **how)


if what == "encoder":
    model = Qwen2AudioEncoder._from_config(
        Qwen2AudioEncoderConfig(encoder_layers=layers), attn_implementation="sdpa", dtype=kind
    ).eval()
    mel = features().input_features.to(kind)
    # Every clip is thirty seconds to it; what is behind a shorter one is masked.
    mask = None
    if seconds < 30:
        mask = torch.zeros(clips, 1, 1500, 1500, dtype=kind)
        mask[..., seconds * 50:] = torch.finfo(kind).min
    work = lambda: model(mel, attention_mask=mask)
elif what == "chunks":
    model = Qwen2_5OmniAudioEncoder._from_config(
        Qwen2_5OmniAudioEncoderConfig(encoder_layers=layers), attn_implementation="sdpa", dtype=kind
    ).eval()
    found = features(padding="max_length")
    lengths = found.attention_mask.sum(-1)
    mel = found.input_features.permute(0, 2, 1)[found.attention_mask.bool()].permute(1, 0).to(kind)
    work = lambda: model(mel, feature_lens=lengths, aftercnn_lens=(lengths - 1) // 2 + 1)
else:
    work = features

with torch.inference_mode():
    work()
    print("ready", flush=True)
    for line in sys.stdin:
        times = int(line)
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(times):
            work()
        print((time.perf_counter() - clock) / times, (time.process_time() - processor) / times, flush=True)
