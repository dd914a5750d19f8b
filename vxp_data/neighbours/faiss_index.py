"""Nearest vectors by cosine, with FAISS: every vector is compared, so the result is exact.

Shapes: N vectors in the index, B queries, K neighbours, D width. All rows have unit norm, so that
an inner product is a cosine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.base import float32_rows
from vxp_data.neighbours.exact import ExactIndex

_BLOCK_VECTORS: Final = 1 << 14


class FlatIndex(ExactIndex):
    """Compares every query with every vector."""

    def __init__(self, emb_ND: NDArray[np.floating[Any]]) -> None:
        import faiss

        super().__init__(emb_ND)
        self._index: Any = faiss.IndexFlatIP(emb_ND.shape[1])
        for start in range(0, len(emb_ND), _BLOCK_VECTORS):
            self._index.add(float32_rows(emb_ND[start : start + _BLOCK_VECTORS]))

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors, see `NeighbourIndex`; exact."""
        del min_cosine
        cosine_BK, row_BK = self._index.search(float32_rows(emb_BD), num_neighbours)
        return cosine_BK, row_BK
