"""Which index is taken: by the number of vectors, and by what is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.extras import is_installed
from vxp_data.neighbours import base
from vxp_data.neighbours.base import HERE, NeighbourIndex, Workers


def build_index(
    emb_ND: NDArray[np.floating[Any]], min_cosine: float, workers: Workers = HERE
) -> NeighbourIndex:
    """Index vectors: every one is compared up to FLAT_VECTORS of them, by clusters beyond.

    Args:
        emb_ND: N vectors of width D, float16 or float32, of unit norm; read in blocks beyond
            FLAT_VECTORS, so that they may lie in a file.
        min_cosine: the least that is ever asked for.
        workers: what compares beyond FLAT_VECTORS.

    Raises:
        UserError: the folder for temporary files is full.
    """
    if len(emb_ND) > base.FLAT_VECTORS:
        from vxp_data.neighbours.clusters import build_clusters

        half_ND: NDArray[Any] = emb_ND if emb_ND.dtype == np.float16 else emb_ND.astype(np.float16)
        return build_clusters(half_ND, min_cosine, workers)
    if is_installed("faiss"):
        from vxp_data.neighbours.faiss_index import FlatIndex

        return FlatIndex(emb_ND)
    from vxp_data.neighbours.numpy_index import NumpyIndex

    return NumpyIndex(emb_ND)
