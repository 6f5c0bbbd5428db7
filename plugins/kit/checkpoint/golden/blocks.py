"""Blocks of all types that llama.cpp writes, and what they stand for: `blocks.json`; and `../src/gguf/grids.bin`.

    python blocks.py

Made once with the package gguf 0.19.0. Each record is two blocks of random bytes, their scales set to plain numbers. The
grids are the points that a few of the types choose from, 16 bits each, in the order of GRIDS below.
"""

import json
from pathlib import Path

import gguf
import numpy as np
from gguf import quants

HERE = Path(__file__).resolve().parent
GRIDS = [quants.IQ2_XXS, quants.IQ2_XS, quants.IQ2_S, quants.IQ3_XXS, quants.IQ3_S, quants.IQ1_S]
# Where the scale of a block is, from its beginning or its end.
SCALES = {"IQ2_XXS": 0, "IQ2_XS": 0, "IQ2_S": 0, "IQ3_XXS": 0, "IQ3_S": 0, "IQ1_S": 0, "IQ1_M": None, "IQ4_NL": 0, "IQ4_XS": 0,
          "TQ1_0": -2, "TQ2_0": -2, "MXFP4": None, "NVFP4": None, "Q1_0": 0, "Q4_0": 0, "Q4_1": 0, "Q5_0": 0, "Q5_1": 0, "Q8_0": 0,
          "Q2_K": -4, "Q3_K": -2, "Q4_K": 0, "Q5_K": 0, "Q6_K": -2}
MINIMA = ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K")  # a second number of 16 bits behind the scale


def signs(blocks):
    """What Q1_0 stands for, of which the package knows the size alone: a bit for each value, 1 for plus."""
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return np.where(np.unpackbits(blocks[:, 2:], axis=1, bitorder="little") == 1, scale, -scale)


def main():
    grids = b"".join(bytes.fromhex(kind.grid_hex.decode()) for kind in GRIDS)
    (HERE.parent / "src/gguf/grids.bin").write_bytes(grids)
    draw, records = np.random.default_rng(20), []
    for name, place in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = draw.integers(0, 256, (2, size), dtype=np.uint8)
        if name == "IQ1_M":
            for row in blocks:  # the highest four bits of four words together are the scale 0.03125: 0x2800
                row[49], row[51], row[53], row[55] = (row[at] & 15 | bits for at, bits in zip((49, 51, 53, 55), (0x00, 0x00, 0x80, 0x20)))
        elif name == "MXFP4":
            blocks[:, 0] = 120, 1
        elif name == "NVFP4":
            blocks[:, :4] = [[0x38, 0x07, 0x7F, 0x00], [0x7E, 0x09, 0x41, 0x08]]  # one, below the normal ones, not a number, nothing, ...
        else:
            start = place % size
            blocks[:, start : start + 2] = np.array([[0.0625], [-0.3]], dtype=np.float16).view(np.uint8)
            if name in MINIMA:
                blocks[:, start + 2 : start + 4] = np.array([[0.125], [0.7]], dtype=np.float16).view(np.uint8)
        values = signs(blocks) if name == "Q1_0" else quants.dequantize(blocks, kind).astype(np.float32)
        assert np.isfinite(values).all()
        records.append({"name": name.lower(), "kind": int(kind), "bytes": blocks.tobytes().hex(),
                        "values": values.tobytes().hex()})
    (HERE / "blocks.json").write_text(json.dumps(records, indent=0) + "\n")


if __name__ == "__main__":
    main()
