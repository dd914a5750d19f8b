"""What an index of vectors is; which one is taken stands in `choose`.

Shapes: N vectors in the index, B queries, K neighbours, D width. All rows have unit norm, so that
an inner product is a cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

FLAT_VECTORS: Final = 20_000
"""Up to so many vectors every one is compared on a CPU: the result is exact."""

T = TypeVar("T")
R = TypeVar("R")


class NeighbourIndex(Protocol):
    """Vectors that can be asked for the nearest ones; it may hold files until its block ends."""

    @property
    def kind(self) -> str:
        """'flat' or 'clusters'."""
        ...

    @property
    def queries_at_once(self) -> int:
        """As many queries should come in one call: what is read for one of them serves all."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

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

    def search_rows(
        self, row_B: NDArray[np.int64], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of rows of the index, each of which may find itself."""
        ...

    def among(self, row_A: NDArray[np.int64]) -> NeighbourIndex:
        """Return an index that finds only some of the rows, by the same numbers.

        Args:
            row_A: ascending.
        """
        ...


class RunTasks(Protocol):
    """Calls a function with each task, in any order; see `engines.base.Engine.run_tasks`."""

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Return the index of each task, and what it gave."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What compares vectors: this process, or several."""

    run_tasks: RunTasks
    share_files: bool
    """They see the files of this machine; else what a task reads travels with it."""


def _run_here(function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
    return ((index, function(task)) for index, task in enumerate(tasks))


HERE: Final = Workers(run_tasks=_run_here, share_files=True)
"""This process alone."""


def float32_rows(emb_BD: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return vectors as the libraries take them."""
    return np.ascontiguousarray(emb_BD, dtype=np.float32)
