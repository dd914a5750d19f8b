"""Vectors on a grid of whole numbers: their products are exact, whatever multiplies them.

Shapes: B rows of a block, C clips, D width.

A matrix product of unit vectors differs in its last bits with the library, the number of threads
and the type of CPU, and a selection would differ where two rows are nearly equal. So components are
put on a grid so coarse that every product and every partial sum of a dot product is a whole number
below 2**24, which float32 holds exactly. That moves a cosine by about 1e-4, less than what encoding
moves it by.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_ROOT_OF_EXACT: Final = 4096
_NORM_ROOM: Final = 1.001
"""Rows stored as float16 are a little longer than 1."""
_FINE: Final = 2.0**20


def grid_scale(dim: int) -> int:
    """Return how many steps of the grid make 1: a row of norm 1.001, rounded, stays below 4096."""
    return math.floor((_ROOT_OF_EXACT - math.sqrt(dim) / 2) / _NORM_ROOM)


def on_grid(unit_BD: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Put unit rows (or 0) on the grid: float32 whole numbers, `grid_scale` times as long."""
    scaled_BD = unit_BD.astype(np.float32) * np.float32(grid_scale(unit_BD.shape[1]))
    np.rint(scaled_BD, out=scaled_BD)
    return scaled_BD


def unit_rows(vector_BD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide rows of norm 2 or less by their norm, the same bits everywhere; 0 stays 0.

    Components are put on a grid of 2**-20 first: squares and their sums are exact then.
    """
    whole_BD = np.rint(vector_BD * _FINE)
    norm_B = np.sqrt(np.einsum("bd,bd->b", whole_BD, whole_BD))
    whole_BD /= np.where(norm_B > 0, norm_B, 1.0)[:, None]
    return whole_BD
