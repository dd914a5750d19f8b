"""Nearest vectors among millions: each in the list of its nearest centre, a few lists compared.

Out of core, in tasks: the vectors lie in files, list by list, and what a task holds does not grow
with their number. The same neighbours come out on any number of processes, on any processor, and in
whatever order the vectors are given, but for which of equally near ones are among the nearest:
those of the lowest rows are.

Shapes: N vectors in the index, A of them that may be found, L lists, B queries, S lists of a query,
K neighbours, P pairs of a query and a list, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.base import HERE, Workers
from vxp_data.neighbours.grid import COSINE, ROUNDING, on_grid
from vxp_data.neighbours.kmeans import gridded_sample, train_centres
from vxp_data.neighbours.list_tasks import (
    MOST_LISTS,
    ListsSearch,
    ListsTask,
    nearest_lists,
    search_lists,
)
from vxp_data.neighbours.products import gpu_knn
from vxp_data.neighbours.row_file import RowFile, Rows
from vxp_data.neighbours.top_hits import TopHits

_LISTS_PER_ROOT: Final = 2.0
"""Lists, as a multiple of the root of N: what assigning costs grows with it, comparing falls."""
_TRAINED_ON_PER_LIST: Final = 40
_REACH: Final = 0.5
"""How far beyond a border neighbours are looked for, as a share of the way to the farthest one that
is wanted: 1 would miss none, and few lie straight across."""
_BLOCK_ROWS: Final = 1 << 13
TASK_ROWS: Final = 1 << 15
"""Members, and queries, of a task: 75 MB each at a width of 1152 where they travel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Vectors in the order of their lists."""

    emb_ND: NDArray[np.float16]
    """As they were given, by row."""
    grid_ND: NDArray[np.int16]
    """List after list, in a file."""
    row_N: NDArray[np.int64]
    """Of each in that order; ascending within a list."""
    position_N: NDArray[np.int64]
    """Of each row in that order."""
    list_N: NDArray[np.int32]
    """List of each in that order."""
    near_NS: NDArray[np.int32]
    """Lists in which a row's neighbours may be, see `nearest_lists`."""
    centre_LD: NDArray[np.int16]


class ClusterIndex:
    """Compares a query with the vectors of a few lists.

    Args:
        lists: the vectors.
        min_cosine: the least that is ever asked for: the farther, the more lists are compared.
        workers: what compares.
        position_A: positions in the lists of those that may be found, ascending; None: all.
        stack: closes the files that the lists lie in; None: they are another index's.
    """

    kind = "clusters"
    queries_at_once: Final = 1 << 20
    """The files are read once for so many."""

    def __init__(
        self,
        lists: Lists,
        min_cosine: float,
        workers: Workers,
        position_A: NDArray[np.int64] | None = None,
        stack: ExitStack | None = None,
    ) -> None:
        self._lists, self._min_cosine, self._workers = lists, min_cosine, workers
        self._position_A, self._stack = position_A, stack or ExitStack()
        self._on_gpu = gpu_knn() is not None
        # What other processes would compare on cores, one GPU does sooner.
        self._searchers = HERE if self._on_gpu else workers
        list_A = lists.list_N if position_A is None else lists.list_N[position_A]
        self._start_L = np.searchsorted(list_A, np.arange(len(lists.centre_LD) + 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def among(self, row_A: NDArray[np.int64]) -> ClusterIndex:
        """Return an index that finds only some of the rows, see `NeighbourIndex`."""
        position_A = np.sort(self._lists.position_N[row_A])
        return ClusterIndex(self._lists, self._min_cosine, self._workers, position_A)

    def search_rows(
        self, row_B: NDArray[np.int64], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find near vectors of rows of the index, see `NeighbourIndex`."""
        lists = self._lists
        place_B = lists.position_N[row_B]
        near_BS = lists.near_NS[row_B]
        return self._search(lists.grid_ND, place_B, near_BS, num_neighbours, min_cosine, row_B)

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find near vectors, see `NeighbourIndex`; only those in the nearest lists are found."""
        given_BD: NDArray[Any] = emb_BD if emb_BD.dtype == np.float16 else emb_BD.astype(np.float16)
        reach = _reach(self._min_cosine)
        near_BS = _assign(given_BD, self._lists.centre_LD, reach, self._workers)
        place_B = np.arange(len(given_BD))
        return self._search(given_BD, place_B, near_BS, num_neighbours, min_cosine, None)

    def _search(
        self,
        query_QD: NDArray[Any],
        place_B: NDArray[np.int64],
        near_BS: NDArray[np.int32],
        num_neighbours: int,
        min_cosine: float,
        row_B: NDArray[np.int64] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find near vectors of queries that lie at places of an array.

        Args:
            query_QD: where they lie, on the grid or as they were given.
            place_B: of each in it.
            near_BS: its lists.
            num_neighbours: K.
            min_cosine: the least that is of interest.
            row_B: of each in the index; None: they are no rows of it.
        """
        if min_cosine < self._min_cosine:
            raise ValueError(f"the index is for cosines from {self._min_cosine}, got {min_cosine}")
        top = TopHits(len(place_B), num_neighbours)
        tasks, query_of = [], []
        for search, own in self._tasks(query_QD, place_B, near_BS, num_neighbours, min_cosine):
            tasks.append(search)
            query_of.append(own)
        for index, (query_H, member_H, product_H) in self._searchers.run_tasks(search_lists, tasks):
            first, query_U = query_of[index]
            top.add((query_U[query_H], self._row_of(first + member_H), product_H))
        query_H, row_H, product_H = top.ranked()
        cosine_H = product_H / np.float32(COSINE)
        given_QD = query_QD if row_B is None else self._lists.emb_ND
        given_B = place_B if row_B is None else row_B
        # On the right side of the bound, to the last bit of what was given.
        close_H = np.flatnonzero(np.abs(cosine_H - np.float32(min_cosine)) < ROUNDING)
        exact_H = _cosines(given_QD, given_B[query_H[close_H]], self._lists.emb_ND, row_H[close_H])
        stays_H = cosine_H >= min_cosine
        stays_H[close_H] = exact_H >= min_cosine
        cosine_H = np.maximum(cosine_H, np.float32(min_cosine))
        return top.table((query_H[stays_H], row_H[stays_H], cosine_H[stays_H]))

    def _row_of(self, member_H: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._position_A is not None:
            member_H = self._position_A[member_H]
        return self._lists.row_N[member_H]

    def _members(self, start: int, stop: int) -> Rows:
        taken = slice(start, stop) if self._position_A is None else self._position_A[start:stop]
        return Rows(self._lists.grid_ND, taken, share_files=self._searchers.share_files)

    def _tasks(
        self,
        query_QD: NDArray[Any],
        place_B: NDArray[np.int64],
        near_BS: NDArray[np.int32],
        num_neighbours: int,
        min_cosine: float,
    ) -> Iterator[tuple[ListsSearch, tuple[int, NDArray[np.int64]]]]:
        """Return what is to be compared, and of each task its first member and its queries."""
        query_P, rank_P = np.nonzero(near_BS >= 0)
        list_P = near_BS[query_P, rank_P]
        # By list, so that each is read once; then as the queries lie in their file.
        order_P = np.lexsort((place_B[query_P], list_P))
        query_P = query_P[order_P]
        first_L = np.searchsorted(list_P[order_P], np.arange(len(self._start_L)))
        for groups in _in_tasks(self._start_L, first_L):
            start_G, stop_G, from_G, to_G = np.array(groups, dtype=np.int64).T
            own_P = np.concatenate([query_P[a:b] for a, b in zip(from_G, to_G, strict=True)])
            own_U, inverse_P = np.unique(own_P, return_inverse=True)
            first = int(start_G[0])
            search = ListsSearch(
                members=self._members(first, int(stop_G[-1])),
                queries=Rows(query_QD, place_B[own_U], share_files=self._searchers.share_files),
                start_G=start_G - first,
                stop_G=stop_G - first,
                query_P=inverse_P,
                first_G=np.concatenate([[0], np.cumsum(to_G - from_G)[:-1]]),
                # Products are whole numbers.
                least=math.floor((min_cosine - ROUNDING) * COSINE),
                most=num_neighbours,
                on_gpu=self._on_gpu,
            )
            yield search, (first, own_U)


Group = tuple[int, int, int, int]
"""Members [start, stop) to be compared with queries [from, to)."""


def _in_tasks(start_L: NDArray[np.int64], first_L: NDArray[np.int64]) -> Iterator[list[Group]]:
    """Share lists out: small ones together, large ones and those of many queries in pieces."""
    groups: list[Group] = []
    size = 0
    for number in range(len(start_L) - 1):
        start, stop = int(start_L[number]), int(start_L[number + 1])
        first, end = int(first_L[number]), int(first_L[number + 1])
        if start == stop or first == end:
            continue
        if groups and size + (stop - start) + (end - first) > TASK_ROWS:
            yield groups
            groups, size = [], 0
        if max(stop - start, end - first) > TASK_ROWS:
            for member in range(start, stop, TASK_ROWS):
                for query in range(first, end, TASK_ROWS):
                    piece = (member, min(stop, member + TASK_ROWS))
                    yield [(*piece, query, min(end, query + TASK_ROWS))]
            continue
        groups.append((start, stop, first, end))
        size += (stop - start) + (end - first)
    if groups:
        yield groups


def build_clusters(
    emb_ND: NDArray[np.float16], min_cosine: float, workers: Workers
) -> ClusterIndex:
    """Lay out centres, and put each vector into the list of the nearest.

    Args:
        emb_ND: may lie in a file, of which a block is read at a time.
        min_cosine: the least that is ever asked for.
        workers: what compares.

    Raises:
        UserError: the folder for temporary files is full.
    """
    num_vectors, dim = emb_ND.shape
    num_lists = max(1, round(_LISTS_PER_ROOT * num_vectors**0.5))
    sample_SD = gridded_sample(emb_ND, num_lists * _TRAINED_ON_PER_LIST)
    centre_LD = train_centres(sample_SD, num_lists, workers)
    del sample_SD
    near_NS = _assign(emb_ND, centre_LD, _reach(min_cosine), workers)
    row_N = np.argsort(near_NS[:, 0], kind="stable")
    position_N = np.empty_like(row_N)
    position_N[row_N] = np.arange(num_vectors)
    with ExitStack() as stack:
        grid_ND = stack.enter_context(RowFile(num_vectors, dim, np.int16)).rows
        for start in range(0, num_vectors, _BLOCK_ROWS):
            row_B = row_N[start : start + _BLOCK_ROWS]
            grid_ND[start : start + _BLOCK_ROWS] = on_grid(emb_ND[row_B])
        lists = Lists(
            emb_ND=emb_ND,
            grid_ND=grid_ND,
            row_N=row_N,
            position_N=position_N,
            list_N=near_NS[row_N, 0],
            near_NS=near_NS,
            centre_LD=centre_LD,
        )
        return ClusterIndex(lists, min_cosine, workers, stack=stack.pop_all())


def _reach(min_cosine: float) -> float:
    """Return how far beyond a border neighbours are looked for."""
    return _REACH * math.sqrt(1.0 - max(0.0, min(1.0, min_cosine)) ** 2)


def _assign(
    emb_ND: NDArray[Any], centre_LD: NDArray[np.int16], reach: float, workers: Workers
) -> NDArray[np.int32]:
    """Return the lists in which the neighbours of vectors may be, see `nearest_lists`."""
    # A task begins with comparing the centres with one another: a sixteenth of its work at most.
    size = max(TASK_ROWS, 16 * len(centre_LD))
    starts = range(0, len(emb_ND), size)
    centres = Rows(centre_LD, slice(None), share_files=workers.share_files)
    tasks = [
        ListsTask(
            rows=Rows(emb_ND, slice(start, start + size), share_files=workers.share_files),
            centres=centres,
            reach=reach,
        )
        for start in starts
    ]
    near_NS = np.empty((len(emb_ND), MOST_LISTS), dtype=np.int32)
    for index, near_BS in workers.run_tasks(nearest_lists, tasks):
        near_NS[starts[index] : starts[index] + len(near_BS)] = near_BS
    return near_NS


def _cosines(
    query_QD: NDArray[Any],
    query_H: NDArray[np.int64],
    emb_ND: NDArray[np.float16],
    row_H: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the cosines of pairs of float16 vectors: whole numbers of 2**-48, added exactly."""
    cosine_H = np.empty(len(query_H), dtype=np.float64)
    order_H = np.argsort(row_H, kind="stable")
    for start in range(0, len(order_H), _BLOCK_ROWS):
        block_H = order_H[start : start + _BLOCK_ROWS]
        first_HD = query_QD[query_H[block_H]].astype(np.float64)
        cosine_H[block_H] = np.einsum(
            "hd,hd->h", first_HD, emb_ND[row_H[block_H]], dtype=np.float64
        )
    return cosine_H
