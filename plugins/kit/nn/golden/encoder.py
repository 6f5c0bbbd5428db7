#!/usr/bin/env python3
"""How fast transformers' audio encoder is, as examples/encoder.rs says of ours: python encoder.py"""
import statistics
import time

import torch
from transformers import Qwen2AudioEncoder, Qwen2AudioEncoderConfig

config = Qwen2AudioEncoderConfig(encoder_layers=4)
model = Qwen2AudioEncoder._from_config(config, attn_implementation="sdpa", dtype=torch.float32).eval()
features = torch.randn(1, 128, 3000)
with torch.no_grad():
    for seconds in (2, 10, 30):
        mask = torch.zeros(1, 1, 1500, 1500)  # it pads every clip to thirty seconds
        mask[..., seconds * 50:] = torch.finfo(torch.float32).min
        times = []
        for _ in range(5):
            start = time.perf_counter()
            model(features, attention_mask=mask)
            times.append(time.perf_counter() - start)
        print(f"{seconds} s of sound through 4 layers: {statistics.median(times):.2f} s")
