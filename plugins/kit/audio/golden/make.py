#!/usr/bin/env python3
"""Records log-mel features of transformers 5.23's WhisperFeatureExtractor: python make.py

`sound.i16` is two seconds of a signal; `features.json` names the cases, and the rows of each lie in `features.f32`
one behind the other. Of most frames only every seventh is kept, and all of the last ones, where the ends show.
"""
import json
from pathlib import Path

import numpy as np
from transformers import WhisperFeatureExtractor

HERE, RATE = Path(__file__).parent, 16_000
# bins, seconds that are padded to, samples of the clip
CASES = [(80, 1, 1), (80, 1, 159), (128, 1, 800), (80, 1, 15_800), (128, 1, 15_990), (80, 1, 16_000),
         (128, 1, 20_000), (80, 30, 100), (128, 30, 8_000), (128, 30, 32_000)]


def sound() -> np.ndarray:
    t = np.arange(2 * RATE) / RATE
    tones = 0.5 * np.sin(2 * np.pi * (180 * t + 300 * t * t)) + 0.2 * np.sin(2 * np.pi * 3111 * t)
    noise = np.random.default_rng(5).uniform(-0.1, 0.1, len(t)) * (np.sin(2 * np.pi * 3 * t) > 0)
    quiet = np.where((t > 0.6) & (t < 0.8), 0.0, 1.0)
    return np.round(30_000 * quiet * (tones * np.sin(np.pi * t / 2) + noise)).astype("<i2")


def main() -> None:
    samples = sound()
    samples.tofile(HERE / "sound.i16")
    rows, cases = [], []
    for bins, seconds, count in CASES:
        extract = WhisperFeatureExtractor(feature_size=bins, chunk_length=seconds)
        clip = samples[:count].astype(np.float32) / np.float32(32_768)
        got = extract(clip, sampling_rate=RATE, return_attention_mask=True)
        features, heard = got["input_features"][0].T, int(got["attention_mask"].sum())
        last = {frame for end in (heard, len(features)) for frame in range(end - 3, end + 3)}
        kept = sorted(({0, 1} | last | set(range(0, heard, 7))) & set(range(len(features))))
        rows.append(features[kept])
        cases.append({"bins": bins, "padded": seconds * RATE, "samples": count, "heard": heard,
                      "frames": len(features), "kept": kept})
    np.concatenate([part.ravel() for part in rows]).astype("<f4").tofile(HERE / "features.f32")
    (HERE / "features.json").write_text("\n".join(["["] + [
        json.dumps(case) + ("," if case is not cases[-1] else "") for case in cases] + ["]"]) + "\n")


if __name__ == "__main__":
    main()
