"""Nearest vectors by cosine, with FAISS: exact up to a size, by inverted lists beyond it.

Shapes: N vectors in the index, B queries, K neighbours, L lists, D width. All rows have unit norm,
so that an inner product is a cosine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.base import FLAT_VECTORS, NeighbourIndex, float32_rows

GPU_FLAT_BYTES: Final = 8 << 30
"""Up to so many bytes of float16 vectors every one is compared on a GPU."""

_LISTS_PER_ROOT: Final = 2.0
"""Inverted lists, as a multiple of the root of N."""
_LISTS_SEARCHED: Final = 8
_TRAINED_ON_PER_LIST: Final = 40
_TRAIN_ROUNDS: Final = 6
_SEED: Final = 7
_BLOCK_VECTORS: Final = 1 << 14


def build_faiss_index(emb_ND: NDArray[np.floating[Any]]) -> NeighbourIndex:
    """Index vectors; the kind is chosen by their number.

    Args:
        emb_ND: float16 or float32; read in blocks, so that it may lie in a file.
    """
    num_vectors, dim = emb_ND.shape
    kind = index_kind(dim, num_vectors)
    return InvertedLists(emb_ND) if kind == "ivf" else FlatIndex(emb_ND, kind)


def index_kind(dim: int, num_vectors: int) -> str:
    """Return which kind of index is taken: 'flat', 'gpu-flat' or 'ivf'."""
    import faiss

    if num_vectors <= FLAT_VECTORS:
        return "flat"
    has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    return "gpu-flat" if has_gpu and 2 * dim * num_vectors <= GPU_FLAT_BYTES else "ivf"


class FlatIndex:
    """Compares every query with every vector."""

    def __init__(self, emb_ND: NDArray[np.floating[Any]], kind: str) -> None:
        import faiss

        self.kind = kind
        self._index: Any = faiss.IndexFlatIP(emb_ND.shape[1])
        if kind == "gpu-flat":
            options = faiss.GpuClonerOptions()
            # Half the memory; pairs that are found are compared again, exactly, frame by frame.
            options.useFloat16 = True
            self._resources = faiss.StandardGpuResources()
            self._index = faiss.index_cpu_to_gpu(self._resources, 0, self._index, options)
        for start in range(0, len(emb_ND), _BLOCK_VECTORS):
            self._index.add(float32_rows(emb_ND[start : start + _BLOCK_VECTORS]))

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors, see `NeighbourIndex`; exact."""
        del min_cosine
        cosine_BK, row_BK = self._index.search(float32_rows(emb_BD), num_neighbours)
        return cosine_BK, row_BK


class InvertedLists:
    """Puts each vector into the list of its nearest centre; compares a query with a few lists.

    FAISS lays out the centres and assigns. The lists are compared by plain matrix products, a block
    of queries at a time: several times as fast on a CPU as FAISS's own scan, query by query.
    """

    kind = "ivf"

    def __init__(self, emb_ND: NDArray[np.floating[Any]]) -> None:
        import faiss

        num_vectors, dim = emb_ND.shape
        num_lists = max(1, round(_LISTS_PER_ROOT * num_vectors**0.5))
        # Spread over all of them: the vectors come in an order that means something.
        step = max(1, num_vectors // (num_lists * _TRAINED_ON_PER_LIST))
        # Spherical: centres have unit norm as the rows do, so that the nearest one is so by cosine.
        kmeans = faiss.Kmeans(
            dim,
            num_lists,
            niter=_TRAIN_ROUNDS,
            seed=_SEED,
            spherical=True,
            min_points_per_centroid=1,
        )
        kmeans.train(float32_rows(emb_ND[::step]))
        self._centres: Any = faiss.IndexFlatIP(dim)
        centre_LD: Any = kmeans.centroids
        self._centres.add(centre_LD)
        list_N = np.concatenate(
            [
                self._centres.search(float32_rows(emb_ND[start : start + _BLOCK_VECTORS]), 1)[1][
                    :, 0
                ]
                for start in range(0, num_vectors, _BLOCK_VECTORS)
            ]
        )
        self._row_N = np.argsort(list_N, kind="stable")
        self._start_L = np.searchsorted(list_N[self._row_N], np.arange(num_lists + 1))
        self._emb_ND = emb_ND
        self._num_searched = min(_LISTS_SEARCHED, num_lists)

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int, min_cosine: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find near vectors, see `NeighbourIndex`; only those in the nearest lists are found."""
        queries_BD = float32_rows(emb_BD)
        _, list_BS = self._centres.search(queries_BD, self._num_searched)
        # Sorted by list, so that each list is read once for all the queries that ask for it.
        asked = np.argsort(list_BS.ravel(), kind="stable")
        first_L = np.searchsorted(list_BS.ravel()[asked], np.arange(len(self._start_L)))
        found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        for number in range(len(self._start_L) - 1):
            query_Q = asked[first_L[number] : first_L[number + 1]] // self._num_searched
            row_M = self._row_N[self._start_L[number] : self._start_L[number + 1]]
            if not (len(query_Q) and len(row_M)):
                continue
            # Widened to float32 one list at a time: all vectors may be more than memory holds.
            cosine_QM = queries_BD[query_Q] @ float32_rows(self._emb_ND[row_M]).T
            query, member = np.nonzero(cosine_QM >= min_cosine)
            found.append((query_Q[query], row_M[member], cosine_QM[query, member]))
        return _nearest(found, len(queries_BD), num_neighbours)


def _nearest(
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]],
    num_queries: int,
    num_neighbours: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the nearest of what was found for each query; ties by index."""
    cosine_BK = np.full((num_queries, num_neighbours), -np.inf, dtype=np.float32)
    row_BK = np.full((num_queries, num_neighbours), -1, dtype=np.int64)
    if not found:
        return cosine_BK, row_BK
    query_P, row_P, cosine_P = (np.concatenate(column) for column in zip(*found, strict=True))
    # lexsort goes by its last key first: by query, then the nearest, then the lowest row.
    order = np.lexsort((row_P, -cosine_P, query_P))
    query_P, row_P, cosine_P = query_P[order], row_P[order], cosine_P[order]
    # Less the position at which its query begins: the rank of each hit within its query.
    rank_P = np.arange(len(query_P)) - np.searchsorted(query_P, query_P)
    near_P = rank_P < num_neighbours
    cosine_BK[query_P[near_P], rank_P[near_P]] = cosine_P[near_P]
    row_BK[query_P[near_P], rank_P[near_P]] = row_P[near_P]
    return cosine_BK, row_BK
