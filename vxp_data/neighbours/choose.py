"""Which index is taken: by the number of vectors, and by what is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.extras import is_installed, require_extra
from vxp_data.neighbours.base import FLAT_VECTORS, NeighbourIndex


def build_index(emb_ND: NDArray[np.floating[Any]]) -> NeighbourIndex:
    """Index vectors: with FAISS where it is installed, else up to FLAT_VECTORS of them in numpy.

    Args:
        emb_ND: N vectors of width D, float16 or float32, of unit norm; read in blocks by FAISS, so
            that they may lie in a file.

    Raises:
        UserError: there are more, and FAISS is not installed.
    """
    if is_installed("faiss"):
        from vxp_data.neighbours.faiss_index import build_faiss_index

        return build_faiss_index(emb_ND)
    if len(emb_ND) > FLAT_VECTORS:
        require_extra("faiss", f"finding duplicates among {len(emb_ND)} clips")
    from vxp_data.neighbours.numpy_index import NumpyIndex

    return NumpyIndex(emb_ND)
