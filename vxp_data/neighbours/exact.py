"""What the indexes share that compare a query with every vector.

Shapes: N vectors in the index, A of them, B queries, K neighbours, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray


class ExactIndex(ABC):
    """Compares every query with every vector; see `NeighbourIndex`.

    Args:
        emb_ND: the vectors.
    """

    kind = "flat"
    queries_at_once: Final = 1 << 15

    def __init__(self, emb_ND: NDArray[np.floating[Any]]) -> None:
        self._given_ND = emb_ND

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        del self._given_ND

    @abstractmethod
    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of each query, see `NeighbourIndex`."""

    def search_rows(
        self, row_B: NDArray[np.int64], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of rows of the index, see `NeighbourIndex`."""
        return self.search(self._given_ND[row_B], num_neighbours, min_cosine)

    def among(self, row_A: NDArray[np.int64]) -> _SomeRows:
        """Return an index that finds only some of the rows, see `NeighbourIndex`."""
        return _SomeRows(self._given_ND, type(self)(self._given_ND[row_A]), row_A)


class _SomeRows:
    """Finds some rows of an index, by its numbers."""

    kind = "flat"
    queries_at_once: Final = ExactIndex.queries_at_once

    def __init__(
        self, emb_ND: NDArray[np.floating[Any]], index: ExactIndex, row_A: NDArray[np.int64]
    ) -> None:
        self._given_ND, self._index, self._row_A = emb_ND, index, row_A

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        cosine_BK, row_BK = self._index.search(emb_BD, num_neighbours, min_cosine)
        return cosine_BK, np.where(row_BK >= 0, np.append(self._row_A, -1)[row_BK], -1)

    def search_rows(
        self, row_B: NDArray[np.int64], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self.search(self._given_ND[row_B], num_neighbours, min_cosine)

    def among(self, row_A: NDArray[np.int64]) -> _SomeRows:
        rows = np.intersect1d(row_A, self._row_A)
        return _SomeRows(self._given_ND, type(self._index)(self._given_ND[rows]), rows)
