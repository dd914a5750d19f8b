"""Nearest vectors by cosine, without FAISS: every vector is compared, so the result is exact.

Shapes: N vectors in the index, B queries of a block, K neighbours, D width.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.base import float32_rows

BLOCK_COSINES: Final = 1 << 22
"""Of a block of queries with all vectors: 16 MB, and 100 MB to rank them."""


class NumpyIndex:
    """Compares every query with every vector, a block of queries at a time."""

    kind = "flat"

    def __init__(self, emb_ND: NDArray[np.floating[Any]]) -> None:
        self._emb_ND = float32_rows(emb_ND)

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `NeighbourIndex`; exact, equally near ones by row."""
        del min_cosine
        cosine_BK = np.full((len(emb_BD), num_neighbours), -np.inf, dtype=np.float32)
        row_BK = np.full((len(emb_BD), num_neighbours), -1, dtype=np.int64)
        num_found = min(num_neighbours, len(self._emb_ND))
        block = max(1, BLOCK_COSINES // max(1, len(self._emb_ND)))
        for start in range(0, len(emb_BD) if num_found else 0, block):
            queries_BD = float32_rows(emb_BD[start : start + block])
            cosine_BN = queries_BD @ self._emb_ND.T
            key_BK = _highest(_keys(cosine_BN), num_found)
            found_BK = _rows(key_BK)
            row_BK[start : start + block, :num_found] = found_BK
            cosine_BK[start : start + block, :num_found] = np.take_along_axis(
                cosine_BN, found_BK, axis=1
            )
        return cosine_BK, row_BK


def _keys(cosine_BN: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return integers in the order of the cosines; of equal ones the first row has the highest.

    So one partition finds the same neighbours every time, which by cosine alone it does not where
    more are equally near than are wanted.
    """
    bits_BN = (cosine_BN + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0, which is as near
    ordered_BN = np.where(bits_BN < 0, bits_BN ^ np.int32(0x7FFFFFFF), bits_BN)
    keys_BN: NDArray[np.int64] = ordered_BN.astype(np.int64) << 32
    keys_BN |= _LOW_BITS - np.arange(cosine_BN.shape[1], dtype=np.int64)
    return keys_BN


_LOW_BITS: Final = (1 << 32) - 1


def _rows(key_BK: NDArray[np.int64]) -> NDArray[np.int64]:
    rows_BK: NDArray[np.int64] = _LOW_BITS - (key_BK & _LOW_BITS)
    return rows_BK


def _highest(key_BN: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return the highest of each row, falling; changes what it is given."""
    key_BN.partition(key_BN.shape[1] - number, axis=1)
    highest_BK: NDArray[np.int64] = np.sort(key_BN[:, -number:], axis=1)[:, ::-1]
    return highest_BK
