"""What a matrix becomes in QLoRA's four-bit NormalFloat with doubly quantised scales: our own statement of what
bitsandbytes computes."""

from __future__ import annotations

import numpy as np
import torch

BLOCK = 64  # values that share a scale; blocks run over the ends of rows
NESTED = 256  # scales that share a scale

CODES = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0], dtype=np.float32)


def bytes_table() -> np.ndarray:
    """256 values: a decimal exponent, then what bits are left for the fraction, with both signs."""
    values = [0.0, 1.0]
    for power in range(7):
        edges = torch.linspace(0.1, 1, 2**power + 1, dtype=torch.float32)
        means = ((edges[:-1] + edges[1:]) / 2 * 10 ** (power - 6)).tolist()
        values += means + [-mean for mean in means]
    return np.array(sorted(values), dtype=np.float32)


def blocks(flat: np.ndarray, size: int, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes of values and the largest magnitude of each block; halfway between two codes, the lower one."""
    count = -(-flat.size // size)
    padded = np.zeros(count * size, dtype=np.float32)
    padded[:flat.size] = flat
    padded = padded.reshape(count, size)
    largest = np.abs(padded).max(axis=1)
    inverse = np.float32(1) / np.maximum(largest, np.float32(1e-38))
    scaled = np.clip(padded * inverse[:, None], -1, 1).reshape(-1)[:flat.size]
    return np.searchsorted((table[:-1] + table[1:]) / np.float32(2), scaled, side="left"), largest


def rounded(weight: torch.Tensor) -> torch.Tensor:
    codes, largest = blocks(weight.numpy().reshape(-1), BLOCK, CODES)
    offset, table = np.float32(largest.astype(np.float64).mean()), bytes_table()
    scale_codes, scale = blocks(largest - offset, NESTED, table)
    scales = table[scale_codes] * np.repeat(scale, NESTED)[:largest.size] + offset
    values = CODES[codes] * np.repeat(scales, BLOCK)[:codes.size]
    return torch.from_numpy(values.reshape(tuple(weight.shape)))
