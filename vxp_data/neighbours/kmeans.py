"""Centres that vectors lie around, by k-means on a sample; the same ones on every machine.

Shapes: N vectors, S of them in the sample, L centres, B a block, D width.

FAISS has a k-means, whose sums depend on threads and processor in their last bits, and with them
which list a vector on a border falls into. Here all sums are of whole numbers (see `grid`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.neighbours.base import Workers
from vxp_data.neighbours.grid import GRID, content_hashes, on_grid, whole
from vxp_data.neighbours.row_file import Rows

_ROUNDS: Final = 6
_BLOCK_ROWS: Final = 1 << 12
_TASK_ROWS: Final = 1 << 14


def sample_rows(emb_ND: NDArray[np.float16], size: int) -> NDArray[np.int64]:
    """Choose different vectors by their content, whatever their order; fewer where there are fewer.

    Returns:
        row_S: in an order that the content decides, too.
    """
    hash_N = np.empty(len(emb_ND), dtype=np.uint64)
    for start in range(0, len(emb_ND), _BLOCK_ROWS):
        hash_N[start : start + _BLOCK_ROWS] = content_hashes(emb_ND[start : start + _BLOCK_ROWS])
    # Of equal vectors one: a thousand black clips are one place to look at.
    _, row_U = np.unique(hash_N, return_index=True)
    return row_U[:size].astype(np.int64)


def train_centres(
    sample_SD: NDArray[np.int16], num_centres: int, workers: Workers
) -> NDArray[np.int16]:
    """Lay out centres: rounds of assigning each vector to the nearest, and taking the means.

    Args:
        sample_SD: vectors on the grid, in an order that content decides: the first ones begin.
        num_centres: as many at most; those that nothing is nearest to are left out.
        workers: what compares them.

    Returns:
        centre_LD: on the grid, of norm 1.
    """
    centre_LD = sample_SD[:num_centres]
    for _ in range(_ROUNDS):
        near_S = nearest_centres(sample_SD, centre_LD, workers)
        order_S = np.argsort(near_S, kind="stable")
        first_L = np.flatnonzero(np.diff(near_S[order_S], prepend=-1))
        sum_LD = _sums(sample_SD, order_S, first_L)
        # Whole numbers below 2**53, so exact; a root and a quotient are rounded in one way.
        norm_L1 = np.sqrt((sum_LD * sum_LD).sum(axis=1, keepdims=True))
        centre_LD = np.rint(sum_LD * GRID / np.maximum(norm_L1, 1.0)).astype(np.int16)
    return centre_LD


def _sums(
    sample_SD: NDArray[np.int16], order_S: NDArray[np.int64], first_L: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the sum of each list, in float64, scaled down where squares would be too large."""
    sum_LD = np.empty((len(first_L), sample_SD.shape[1]), dtype=np.float64)
    for number, start in enumerate(first_L.tolist()):
        stop = first_L[number + 1] if number + 1 < len(first_L) else len(order_S)
        members_MD = sample_SD[order_S[start:stop]]
        sum_LD[number] = members_MD.sum(axis=0, dtype=np.int64)
    # Norms up to GRID * 2**14 have squares that add up exactly.
    size_L = np.diff(np.append(first_L, len(order_S)))
    scale_L = np.exp2(-np.maximum(0, np.ceil(np.log2(size_L)) - 14))
    scaled_LD: NDArray[np.float64] = np.rint(sum_LD * scale_L[:, None])
    return scaled_LD


def nearest_centres(
    sample_SD: NDArray[np.int16], centre_LD: NDArray[np.int16], workers: Workers
) -> NDArray[np.int64]:
    """Return the nearest centre of each vector; of equally near ones the first."""
    starts = range(0, len(sample_SD), _TASK_ROWS)
    tasks = [
        _NearestTask(
            rows=Rows(
                sample_SD,
                slice(start, start + _TASK_ROWS),
                share_files=workers.share_files,
            ),
            centre_LD=centre_LD,
        )
        for start in starts
    ]
    near_S = np.empty(len(sample_SD), dtype=np.int64)
    for index, near_B in workers.run_tasks(_nearest, tasks):
        near_S[starts[index] : starts[index] + len(near_B)] = near_B
    return near_S


@dataclass(frozen=True, slots=True, kw_only=True)
class _NearestTask:
    rows: Rows
    centre_LD: NDArray[Any]


def _nearest(task: _NearestTask) -> NDArray[np.int64]:
    centre_DL = whole(task.centre_LD).T
    blocks = []
    for start in range(0, len(task.rows), _BLOCK_ROWS):
        block_BD = whole(task.rows.read(slice(start, start + _BLOCK_ROWS)))
        blocks.append((block_BD @ centre_DL).argmax(axis=1))
    return np.concatenate(blocks)


def gridded_sample(emb_ND: NDArray[np.float16], size: int) -> NDArray[np.int16]:
    """Return a sample of vectors on the grid; see `sample_rows`."""
    row_S = sample_rows(emb_ND, size)
    sample_SD = np.empty((len(row_S), emb_ND.shape[1]), dtype=np.int16)
    ascending_S = np.argsort(row_S)  # a file is read from front to back
    for start in range(0, len(row_S), _BLOCK_ROWS):
        block_B = ascending_S[start : start + _BLOCK_ROWS]
        sample_SD[block_B] = on_grid(emb_ND[row_S[block_B]])
    return sample_SD
