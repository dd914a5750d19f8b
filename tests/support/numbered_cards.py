"""Test cards that carry their own number, and what reads it from a decoded picture.

The upper third has ten blocks from left to right: block k is white where bit k of the number is
set. Below, a bar moves a few pixels a picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BITS = 10


def card(number: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Draw a number, uint8 [H, W, 3]."""
    picture = np.full((height_px, width_px, 3), (40, 60, 90), dtype=np.uint8)
    for bit in range(BITS):
        block = slice(bit * width_px // BITS, (bit + 1) * width_px // BITS)
        picture[: height_px // 3, block] = 235 if number >> bit & 1 else 16
    at = 5 * number % max(1, width_px - 8)
    picture[height_px // 2 :, at : at + 8] = (220, 200, 40)
    return picture


def number_of(picture_HWC: NDArray[np.uint8]) -> int:
    """Read the number, whatever size the card was drawn or decoded at."""
    height_px, width_px, _ = picture_HWC.shape
    at = [(2 * bit + 1) * width_px // (2 * BITS) for bit in range(BITS)]
    levels = picture_HWC[height_px // 6, at].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if levels[bit] > 128)


def write_cards(path: Path, first: int, num_cards: int, width_px: int, height_px: int) -> Path:
    """Write cards as raw RGB, for ffmpeg to read."""
    numbers = range(first, first + num_cards)
    path.write_bytes(b"".join(card(n, width_px, height_px).tobytes() for n in numbers))
    return path
