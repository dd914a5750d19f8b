"""What an index of vectors is; which one is taken stands in `choose`.

Shapes: N vectors in the index, B queries, K neighbours, D width. All rows have unit norm, so that
an inner product is a cosine.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

FLAT_VECTORS: Final = 20_000
"""Up to so many vectors every one is compared on a CPU: the result is exact."""


class NeighbourIndex(Protocol):
    """Vectors that can be asked for the nearest ones."""

    kind: str

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of each query, nearest first.

        Args:
            emb_BD: queries.
            num_neighbours: K.
            min_cosine: vectors that are not so near are of no interest, and may be left out.

        Returns:
            cosine_BK: float32, and row_BK: int64, the vectors' rows in the index; -1 where there
            are fewer.
        """
        ...


def float32_rows(emb_BD: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return vectors as the libraries take them."""
    return np.ascontiguousarray(emb_BD, dtype=np.float32)
