#!/usr/bin/env python3
"""Records filter banks of torchaudio 2.11's Kaldi compliance module, of the signal that make.py makes: python fbank.py

`fbank.json` names the cases, and the rows of each lie in `fbank.f32` one behind the other.
"""
import json
from pathlib import Path

import numpy as np
import torch

torch.version.cuda = None  # the module computes on the CPU, whatever the two libraries were built for
from torchaudio.compliance import kaldi  # noqa: E402

HERE = Path(__file__).parent
# bins, samples of the clip: below a frame, exactly one, a sample short of two, two, and all with a silent stretch
CASES = [(128, 399), (128, 400), (128, 559), (80, 560), (128, 32_000)]


def main() -> None:
    samples = np.fromfile(HERE / "sound.i16", dtype="<i2")
    rows, cases = [], []
    for bins, count in CASES:
        wave = torch.from_numpy(samples[:count].astype(np.float64))[None]
        got = kaldi.fbank(wave, num_mel_bins=bins) if count >= 400 else torch.empty(0, bins)
        kept = sorted({0, 1, len(got) - 1} & set(range(len(got))) | set(range(0, len(got), 9)))
        rows.append(got[kept].numpy())
        cases.append({"bins": bins, "samples": count, "frames": len(got), "kept": kept})
    np.concatenate([part.ravel() for part in rows]).astype("<f4").tofile(HERE / "fbank.f32")
    (HERE / "fbank.json").write_text("[" + ",\n".join(json.dumps(case) for case in cases) + "]\n")


if __name__ == "__main__":
    main()
