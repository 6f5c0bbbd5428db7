#!/usr/bin/env python3
"""How fast transformers' WhisperFeatureExtractor is, as examples/features.rs says of ours: python bench.py"""
import statistics
import time

import numpy as np
from transformers import WhisperFeatureExtractor

n = np.arange(30 * 16_000, dtype=np.float32)
sound = np.sin(n * 0.05) * np.cos(n * 0.0007)
extract = WhisperFeatureExtractor(feature_size=128)
for seconds in (2, 10, 30):
    times = []
    for _ in range(30):
        start = time.perf_counter()
        extract(sound[: seconds * 16_000], sampling_rate=16_000, return_attention_mask=True)
        times.append((time.perf_counter() - start) * 1e3)
    print(f"{seconds} s of sound, padded to 30 s: {statistics.median(times):.2f} ms")
