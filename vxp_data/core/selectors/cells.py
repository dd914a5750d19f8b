"""Cells of similar clips: k-means on the sphere, the same bits on every machine.

Shapes: C clips, S of them trained on, K cells, B clips of a block, D width.

Our own and not FAISS's: selectors are pure functions on numpy, work without extras, and products on
the grid (`grid`) are exact, so that neither threads nor CPU change a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.seeds import hash64
from vxp_data.core.selectors.base import BLOCK_ROWS, Candidates
from vxp_data.core.selectors.grid import grid_scale, on_grid, unit_rows

_TRAINED_ON_PER_CELL: Final = 40
_ROUNDS: Final = 8
MAX_CELL: Final = 4096
"""Clips in a cell, at most, where `split` is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Which cell each clip is in."""

    cell_C: NDArray[np.int64]
    cosine_C: NDArray[np.float64]
    """Of each clip with its cell's centre."""
    centre_KD: NDArray[np.float32]
    """On the grid; a cell may be empty."""

    def members(self) -> list[NDArray[np.intp]]:
        """Return each cell's clips, ascending; of cells that have any."""
        order_C = np.argsort(self.cell_C, kind="stable")
        ends = np.flatnonzero(np.diff(self.cell_C[order_C])) + 1
        return np.split(order_C, ends) if len(order_C) else []


def find_cells(candidates: Candidates, num_cells: int | None = None) -> Cells:
    """Put clips into cells.

    Args:
        candidates: in their canonical order, with means.
        num_cells: K; None: the root of C. No more than there are clips.
    """
    mean_CD = candidates.mean_CD
    num_clips = len(mean_CD)
    wanted = round(num_clips**0.5) if num_cells is None else num_cells
    number = max(1, min(wanted, num_clips))
    trained_S = _sample(candidates, number * _TRAINED_ON_PER_CELL)
    vector_SD = on_grid(mean_CD[np.sort(trained_S)])
    centre_KD = on_grid(mean_CD[trained_S[:number]])
    for _ in range(_ROUNDS):
        cell_S, _ = _nearest(vector_SD, centre_KD)
        moved_KD = _centres(vector_SD, cell_S, centre_KD)
        if (moved_KD == centre_KD).all():
            break
        centre_KD = moved_KD
    cell_C = np.empty(num_clips, dtype=np.int64)
    product_C = np.empty(num_clips)
    for start in range(0, num_clips, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        cell_C[block], product_C[block] = _nearest(on_grid(mean_CD[block]), centre_KD)
    scale = grid_scale(mean_CD.shape[1])
    return Cells(cell_C=cell_C, cosine_C=product_C / scale**2, centre_KD=centre_KD)


def _sample(candidates: Candidates, number: int) -> NDArray[np.intp]:
    """Return so many clips, drawn by their names: their order may mean something."""
    key = [hash64("cells", candidates.seed, name) for name in candidates.clip_name_C.tolist()]
    return np.argsort(np.array(key, dtype=np.uint64), kind="stable")[:number]


def _nearest(
    vector_BD: NDArray[np.float32], centre_KD: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest centre of each vector, the first of equally near ones, and the product."""
    cell_B = np.empty(len(vector_BD), dtype=np.int64)
    product_B = np.empty(len(vector_BD))
    for start in range(0, len(vector_BD), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        product_BK = vector_BD[block] @ centre_KD.T
        cell_B[block] = product_BK.argmax(axis=1)
        product_B[block] = product_BK.max(axis=1)
    return cell_B, product_B


def _centres(
    vector_SD: NDArray[np.float32], cell_S: NDArray[np.int64], centre_KD: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the cells' mean directions; one that is empty stays where it was."""
    moved_KD = centre_KD.copy()
    order_S = np.argsort(cell_S, kind="stable")
    starts = np.searchsorted(cell_S[order_S], np.arange(len(centre_KD) + 1))
    scale = grid_scale(vector_SD.shape[1])
    for cell in np.flatnonzero(np.diff(starts)).tolist():
        row_M = order_S[starts[cell] : starts[cell + 1]]
        mean_D = vector_SD[row_M].sum(axis=0, dtype=np.float64) / (len(row_M) * scale)
        moved_KD[cell] = on_grid(unit_rows(mean_D[None]))[0]
    return moved_KD


def split(cells: Cells, candidates: Candidates) -> list[NDArray[np.intp]]:
    """Return the clips of each cell; those of more than MAX_CELL are put into cells once more.

    Clips that are all alike cannot be told apart so; they are split as they come.
    """
    parts: list[NDArray[np.intp]] = []
    for member_M in cells.members():
        if len(member_M) <= MAX_CELL:
            parts.append(member_M)
            continue
        inner = find_cells(_chosen(candidates, member_M), 2 * -(-len(member_M) // MAX_CELL))
        for inner_M in inner.members():
            starts = range(0, len(inner_M), MAX_CELL)
            parts += [member_M[inner_M[start : start + MAX_CELL]] for start in starts]
    return parts


def _chosen(candidates: Candidates, clip_M: NDArray[np.intp]) -> Candidates:
    """Return some clips, each with a row of its own, for what looks at names and means alone."""
    nothing_M = np.full(len(clip_M), np.nan)
    name_M = candidates.clip_name_C[clip_M]
    return Candidates(
        sample_id_N=name_M, clip_N=np.arange(len(clip_M)), dataset_N=name_M,
        needs_time_N=nothing_M, outside_N=nothing_M, clip_name_C=name_M, redundancy_C=nothing_M,
        duration_s_C=nothing_M, change_C=nothing_M, effective_frames_C=nothing_M,
        mean_CD=candidates.mean_CD[clip_M], seed=candidates.seed,
    )  # fmt: skip
