"""Which members of a list are near which queries: one matrix product, on a CPU or by FAISS's GPU.

Shapes: B queries, M members, K neighbours, H hits, D width. Vectors are on the grid (see `grid`):
products are exact, and the same on either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.extras import is_installed
from vxp_data.neighbours.ranking import highest_columns

Hits = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Query, member and product of each."""
NO_HITS: Final[Hits] = (
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.float32),
)
Knn = Callable[..., tuple[NDArray[np.float32], NDArray[np.int64]]]
"""As `faiss.knn`: queries, members, K and metric; products, falling, and members."""
MOST_ON_GPU: Final = 1024
"""Neighbours that FAISS ranks on a GPU, at most half of what it can."""


def joined(pieces: Sequence[Hits]) -> Hits:
    """Return hits one after the other."""
    columns = zip(NO_HITS, *pieces, strict=True)
    query_H, member_H, product_H = (np.concatenate(column) for column in columns)
    return query_H, member_H, product_H


def near_members(
    query_BD: NDArray[np.float32],
    member_MD: NDArray[np.float32],
    least: float,
    most: int,
) -> Hits:
    """Find the members whose product with a query is not below `least`.

    Args:
        query_BD: queries.
        member_MD: members.
        least: product.
        most: as many of the greatest of each query; equal ones by member.

    Returns:
        Hits, in no order.
    """
    product_BM = query_BD @ member_MD.T
    return _cut(product_BM, product_BM >= least, most)


def _cut(product_BM: NDArray[np.float32], near_BM: NDArray[np.bool_], most: int) -> Hits:
    too_many_B = near_BM.sum(axis=1) > most
    if too_many_B.any():
        near_BM[too_many_B] = False
        query_R = np.flatnonzero(too_many_B)
        member_RK = highest_columns(product_BM[query_R], most)
        near_BM[query_R[:, None], member_RK] = True
    query_H, member_H = np.nonzero(near_BM)
    return query_H, member_H, product_BM[query_H, member_H]


def near_members_by_knn(
    knn: Knn,
    query_BD: NDArray[np.float32],
    member_MD: NDArray[np.float32],
    least: float,
    most: int,
) -> Hits:
    """Find the same by a search for the K nearest, whose order among equal ones is not fixed.

    Where it may have cut between equal ones, the query is compared again here.
    """
    wanted = min(len(member_MD), most + 1)
    product_BK, member_BK = knn(query_BD, member_MD, wanted)
    near_BK = product_BK >= least
    again_B = near_BK[:, -1] & (wanted == most + 1)
    near_BK[again_B] = False
    query_H, rank_H = np.nonzero(near_BK)
    query_A = np.flatnonzero(again_B)
    again = near_members(query_BD[query_A], member_MD, least, most)
    hits = query_H, member_BK[query_H, rank_H], product_BK[query_H, rank_H]
    return joined([hits, (query_A[again[0]], again[1], again[2])])


@cache
def gpu_knn() -> Knn | None:
    """Return a search on this process's GPU; None: there is none, or no FAISS that knows it."""
    if not is_installed("faiss"):
        return None
    import faiss

    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        return None
    resources: Any = faiss.StandardGpuResources()
    return partial(_gpu_knn, faiss, resources)


def _gpu_knn(
    faiss: Any,
    resources: Any,
    query_BD: NDArray[np.float32],
    member_MD: NDArray[np.float32],
    most: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    found: tuple[NDArray[np.float32], NDArray[np.int64]] = faiss.knn_gpu(
        resources, query_BD, member_MD, most, metric=faiss.METRIC_INNER_PRODUCT
    )
    return found
