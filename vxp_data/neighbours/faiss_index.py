"""Nearest vectors by cosine, with FAISS: exact up to a size, by inverted lists beyond it.

Shapes: N vectors in the index, B queries, K neighbours, D width. All rows have unit norm, so that
an inner product is a cosine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FLAT_VECTORS: Final = 20_000
"""Up to so many vectors every one is compared on a CPU: the result is exact."""
GPU_FLAT_BYTES: Final = 8 << 30
"""Up to so many bytes of float16 vectors every one is compared on a GPU."""

_LISTS_PER_ROOT: Final = 1.0
"""Inverted lists, as a multiple of the root of N."""
_LISTS_SEARCHED: Final = 16
_TRAINED_ON_PER_LIST: Final = 64
_TRAIN_ROUNDS: Final = 8
_SEED: Final = 7
_BLOCK_VECTORS: Final = 1 << 14


class NeighbourIndex:
    """Vectors that can be asked for the nearest ones.

    Args:
        emb_ND: float16 or float32; read in blocks, so that it may lie in a file.
    """

    def __init__(self, emb_ND: NDArray[np.floating[Any]]) -> None:
        import faiss

        num_vectors, dim = emb_ND.shape
        self.kind = index_kind(dim, num_vectors)
        self._index: Any
        if self.kind == "ivf":
            num_lists = max(1, round(_LISTS_PER_ROOT * num_vectors**0.5))
            self._quantizer = faiss.IndexFlatIP(dim)  # kept: FAISS does not own it
            self._index = faiss.IndexIVFScalarQuantizer(
                self._quantizer,
                dim,
                num_lists,
                faiss.ScalarQuantizer.QT_fp16,
                faiss.METRIC_INNER_PRODUCT,
            )
            self._index.cp.niter = _TRAIN_ROUNDS
            self._index.cp.seed = _SEED
            self._index.cp.min_points_per_centroid = 1
            # Spread over all of them: the vectors come in an order that means something.
            step = max(1, num_vectors // (num_lists * _TRAINED_ON_PER_LIST))
            self._index.train(np.ascontiguousarray(emb_ND[::step], dtype=np.float32))
            self._index.nprobe = min(_LISTS_SEARCHED, num_lists)
        else:
            self._index = faiss.IndexFlatIP(dim)
            if self.kind == "gpu-flat":
                options = faiss.GpuClonerOptions()
                options.useFloat16 = True
                self._resources = faiss.StandardGpuResources()
                self._index = faiss.index_cpu_to_gpu(self._resources, 0, self._index, options)
        for start in range(0, num_vectors, _BLOCK_VECTORS):
            block = emb_ND[start : start + _BLOCK_VECTORS]
            self._index.add(np.ascontiguousarray(block, dtype=np.float32))

    def search(
        self, emb_BD: NDArray[np.floating[Any]], num_neighbours: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest vectors of each query, nearest first.

        Returns:
            cosine_BK: float32, and row_BK: int64, the vectors' places in the index; -1 where there
            are fewer.
        """
        queries = np.ascontiguousarray(emb_BD, dtype=np.float32)
        cosine_BK, row_BK = self._index.search(queries, num_neighbours)
        return cosine_BK, row_BK


def index_kind(dim: int, num_vectors: int) -> str:
    """Tell which kind of index is taken: 'flat', 'gpu-flat' or 'ivf'."""
    import faiss

    if num_vectors <= FLAT_VECTORS:
        return "flat"
    has_gpu = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    return "gpu-flat" if has_gpu and 2 * dim * num_vectors <= GPU_FLAT_BYTES else "ivf"
