"""Vectors as whole numbers, whose inner products float32 holds exactly, whoever works them out.

Shapes: N vectors, D width.

A component is rounded to a multiple of 1 / GRID. By Cauchy and Schwarz an inner product of two such
rows, and every partial sum of it, stays below GRID**2 (and a little), and that below 2**24: up to
there float32 knows every whole number. So order of summation, fused multiply-add, the number of
threads and the kind of processor change no bit, and one matrix product gives the same lists and
the same neighbours everywhere. A cosine moves by some 1e-4.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GRID: Final = 4000
"""Steps of 1; (GRID + 0.5 * sqrt(D))**2 must stay below 2**24: it does up to a D of 34,000."""
COSINE: Final = GRID * GRID
"""An inner product of two such rows, for a cosine of 1."""
ROUNDING: Final = 1e-3
"""More than a cosine moves by; nearer than so to a bound it is worked out from what was given."""
_HASH_SEED: Final = 0x9E3779B97F4A7C15


def on_grid(emb_ND: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Return rows of norm 1 in steps of 1 / GRID."""
    whole_ND = np.multiply(emb_ND, GRID, dtype=np.float32)
    grid_ND: NDArray[np.int16] = np.rint(whole_ND, out=whole_ND).astype(np.int16)
    return grid_ND


def whole(grid_ND: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return rows as matrix products take them."""
    return grid_ND.astype(np.float32)


def content_hashes(emb_ND: NDArray[np.float16]) -> NDArray[np.uint64]:
    """Return a number for each vector that its bytes alone decide, uint64 [N]."""
    bits_ND = np.ascontiguousarray(emb_ND, dtype="<f2").view("<u2")
    spare = -bits_ND.shape[1] % 4
    if spare:
        bits_ND = np.pad(bits_ND, ((0, 0), (0, spare)))
    word_NW = bits_ND.view("<u8").astype(np.uint64)
    # Each word times an odd number of its own: every bit reaches the upper half of the sum.
    place_W = np.arange(1, word_NW.shape[1] + 1, dtype=np.uint64) * np.uint64(_HASH_SEED)
    return _mixed((_mixed(word_NW) * (_mixed(place_W) | np.uint64(1))).sum(axis=1))


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of SplitMix64 of numbers: near ones come far apart."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
