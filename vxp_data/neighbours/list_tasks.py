"""What compares vectors with centres and with the members of lists, as tasks of plain arrays.

Shapes: B queries of a task, M members of lists, L centres, S lists of a query, G groups of queries
and the members they are compared with, P queries of all groups, H hits, D width. All vectors are
on the grid (see `grid`): every product is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.grid import GRID, on_grid, whole
from vxp_data.neighbours.products import (
    MOST_ON_GPU,
    Hits,
    gpu_knn,
    joined,
    near_members,
    near_members_by_knn,
)
from vxp_data.neighbours.ranking import greatest, highest_columns
from vxp_data.neighbours.row_file import Rows

MOST_LISTS: Final = 24
"""Lists that a query is compared with, at most."""
_BLOCK_ROWS: Final = 1 << 11
_BLOCK_MEMBERS: Final = 1 << 12
_OUT: Final = np.float32(-np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListsTask:
    """Vectors whose nearest lists are wanted."""

    rows: Rows
    """As they were given."""
    centres: Rows
    reach: float
    """A list is searched where the border between its centre and the nearest one is not further
    away from the query than this."""


def nearest_lists(task: ListsTask) -> NDArray[np.int32]:
    """Return the lists in which the neighbours of vectors may be.

    A neighbour of q is in another list than q where it lies beyond the border between the two
    centres, c and c'. That border is q.(c - c') / |c - c'| away from q.

    Returns:
        list_BS: nearest first (equally near ones by number), -1 where there are no more; at least
            one.
    """
    centre_LD = whole(task.centres.read())
    # Norms are 1 but for rounding: |c - c'|**2 = 2 - 2 c.c', in steps of 1 / GRID.
    cosine_LL = centre_LD @ centre_LD.T
    distance_LL = np.sqrt(np.maximum(np.float32(0), 2 * (np.float32(GRID**2) - cosine_LL)))
    blocks = []
    for start in range(0, len(task.rows), _BLOCK_ROWS):
        query_BD = whole(on_grid(task.rows.read(slice(start, start + _BLOCK_ROWS))))
        blocks.append(_near_lists(query_BD @ centre_LD.T, distance_LL, task.reach * GRID))
    return np.concatenate(blocks)


def _near_lists(
    product_BL: NDArray[np.float32], distance_LL: NDArray[np.float32], reach: float
) -> NDArray[np.int32]:
    nearest_B = product_BL.argmax(axis=1)
    query_B = np.arange(len(product_BL))
    allowed_BL = distance_LL[nearest_B]
    allowed_BL *= np.float32(reach)
    np.subtract(product_BL[query_B, nearest_B][:, None], allowed_BL, out=allowed_BL)
    within_BL = product_BL >= allowed_BL
    within_BL[query_B, nearest_B] = True
    most = min(MOST_LISTS, product_BL.shape[1])
    list_BS = np.full((len(product_BL), MOST_LISTS), -1, dtype=np.int32)
    too_many_B = within_BL.sum(axis=1) > most
    if too_many_B.any():
        query_R = np.flatnonzero(too_many_B)
        near_RL = np.where(within_BL[query_R], product_BL[query_R], _OUT)
        list_BS[query_R, :most] = highest_columns(near_RL, most)
        within_BL[query_R] = False
    query_H, list_H = np.nonzero(within_BL)
    order_H, rank_H = greatest(query_H, list_H, product_BL[query_H, list_H], most)
    list_BS[query_H[order_H], rank_H] = list_H[order_H]
    return list_BS


@dataclass(frozen=True, slots=True, kw_only=True)
class ListsSearch:
    """Lists, and the queries that are compared with them."""

    members: Rows
    """On the grid, list after list."""
    queries: Rows
    """Each once, on the grid or as they were given."""
    start_G: NDArray[np.int64]
    """First member of each group."""
    stop_G: NDArray[np.int64]
    query_P: NDArray[np.int64]
    """Positions in `queries`, group after group."""
    first_G: NDArray[np.int64]
    """Of each group in `query_P`."""
    least: float
    """Product."""
    most: int
    """Neighbours of a query in a list."""
    on_gpu: bool
    """Of the process that runs it."""


def search_lists(task: ListsSearch) -> Hits:
    """Return the nearest members of each query, by positions in `queries` and `members`."""
    found: list[Hits] = []
    end_G = np.append(task.first_G[1:], len(task.query_P))
    for start, stop, first, end in zip(
        task.start_G.tolist(), task.stop_G.tolist(), task.first_G.tolist(), end_G.tolist(),
        strict=True,
    ):  # fmt: skip
        for at in range(first, end, _BLOCK_ROWS):
            query_B = task.query_P[at : min(end, at + _BLOCK_ROWS)]
            hits = _search_list(task, start, stop, query_B)
            if len(hits[0]):
                found.append(hits)
    return joined(found)


def _search_list(task: ListsSearch, start: int, stop: int, query_B: NDArray[np.int64]) -> Hits:
    """Compare some queries with one list, a block of its members at a time."""
    given_BD: NDArray[Any] = task.queries.read(query_B)
    query_BD = whole(given_BD if given_BD.dtype == np.int16 else on_grid(given_BD))
    knn = gpu_knn() if task.on_gpu and task.most <= MOST_ON_GPU else None
    found: Hits | None = None
    for at in range(start, stop, _BLOCK_MEMBERS):
        member_MD = whole(task.members.read(slice(at, min(stop, at + _BLOCK_MEMBERS))))
        if knn is None:
            hits = near_members(query_BD, member_MD, task.least, task.most)
        else:
            hits = near_members_by_knn(knn, query_BD, member_MD, task.least, task.most)
        hits = hits[0], hits[1] + at, hits[2]
        if found is not None:
            query_H, member_H, product_H = joined([found, hits])
            kept_H, _ = greatest(query_H, member_H, product_H, task.most)
            hits = query_H[kept_H], member_H[kept_H], product_H[kept_H]
        found = hits
    assert found is not None  # a group has members
    return query_B[found[0]], found[1], found[2]
