"""Nearest vectors by cosine, without FAISS: every vector is compared, so the result is exact.

Shapes: N vectors in the index, B queries of a block, K neighbours, D width.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.base import float32_rows
from vxp_data.neighbours.exact import ExactIndex
from vxp_data.neighbours.ranking import highest_columns

BLOCK_COSINES: Final = 1 << 22
"""Of a block of queries with all vectors: 16 MB, and 100 MB to rank them."""


class NumpyIndex(ExactIndex):
    """Compares every query with every vector, a block of queries at a time."""

    def __init__(self, emb_ND: NDArray[np.floating[Any]]) -> None:
        super().__init__(emb_ND)
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
            found_BK = highest_columns(cosine_BN, num_found)
            row_BK[start : start + block, :num_found] = found_BK
            cosine_BK[start : start + block, :num_found] = np.take_along_axis(
                cosine_BN, found_BK, axis=1
            )
        return cosine_BK, row_BK
