"""Selectors that compare clips by their mean embeddings: decorrelate, cluster_quota.

Shapes: C clips, B of a block, K cells, M members of one, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.selectors.base import BLOCK_ROWS, Candidates, Selector
from vxp_data.core.selectors.cells import Cells, find_cells
from vxp_data.core.selectors.grid import grid_scale, unit_rows

_CENTRED_GRID: Final = 2.0**14
"""Of unit vectors: a dot product with the sum of 2**25 of them is exact in float64."""
_SMALL_BLOCK: Final = BLOCK_ROWS // 4
"""float64 takes twice the room, and there are several of them."""
_NEAREST_CENTRES: Final = 20
_TEMPERATURE: Final = 0.1


def _decorrelate(candidates: Candidates) -> NDArray[np.float64]:
    """Score by minus the mean cosine with all others, once the mean of all is taken off.

    The sum over all others of a dot product is the dot product with the sum over all others: C
    clips cost C products, not C squared.
    """
    mean_CD = candidates.mean_CD
    num_clips, dim = mean_CD.shape
    if num_clips < 2:
        return np.zeros(num_clips)
    centre_D = np.zeros(dim)
    for start in range(0, num_clips, BLOCK_ROWS):  # exact: float16 lies on a grid of 2**-24
        centre_D += mean_CD[start : start + BLOCK_ROWS].sum(axis=0, dtype=np.float64)
    centre_D /= num_clips
    sum_D = np.zeros(dim)
    for _, unit_BD in _centred(mean_CD, centre_D):
        sum_D += unit_BD.sum(axis=0)
    score_C = np.empty(num_clips)
    for start, unit_BD in _centred(mean_CD, centre_D):
        own_B = np.einsum("bd,bd->b", unit_BD, unit_BD)
        others_B = unit_BD @ sum_D - own_B
        score_C[start : start + len(unit_BD)] = -others_B / _CENTRED_GRID**2 / (num_clips - 1)
    return score_C


def _centred(
    mean_CD: NDArray[np.float16], centre_D: NDArray[np.float64]
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Return centred unit rows, on a grid, in blocks: where a block begins, and its rows."""
    for start in range(0, len(mean_CD), _SMALL_BLOCK):
        block_BD = mean_CD[start : start + _SMALL_BLOCK].astype(np.float64) - centre_D
        unit_BD = unit_rows(block_BD)
        unit_BD *= _CENTRED_GRID
        yield start, np.rint(unit_BD, out=unit_BD)


def _cluster_quota(candidates: Candidates) -> NDArray[np.float64]:
    """Score by minus a clip's rank in its cell over the cell's quota.

    In a cell the clips furthest from its centre come first. A cell that runs out leaves the rest to
    the others, since ranks of theirs go on.
    """
    cells = find_cells(candidates)
    quota_K = cell_quotas(cells)
    score_C = np.empty(candidates.num_clips)
    for member_M in cells.members():
        rank_M = np.empty(len(member_M))
        rank_M[np.argsort(cells.cosine_C[member_M], kind="stable")] = np.arange(len(member_M)) + 1.0
        score_C[member_M] = -rank_M / quota_K[cells.cell_C[member_M[0]]]
    return score_C


def cell_quotas(cells: Cells) -> NDArray[np.float64]:
    """Return how many clips a cell should have of as many as there are, [K].

    Proportional to the exponential of (distance to the nearest other centres x distance of its
    clips from its own centre) / 0.1: cells that are far from others and wide get more.

    Source:
        Density-based pruning (https://arxiv.org/abs/2401.04578), section 3. There a quadratic
        program keeps quotas within the cells' sizes; here ranks over quotas do, see
        `_cluster_quota`.
    """
    scale = grid_scale(cells.centre_KD.shape[1])
    num_K = np.bincount(cells.cell_C, minlength=len(cells.centre_KD))
    there_K = num_K > 0
    own_K = 1.0 - np.bincount(cells.cell_C, cells.cosine_C, minlength=len(num_K)) / np.maximum(
        num_K, 1
    )
    centre_KD = cells.centre_KD[there_K]
    between_K = np.zeros(len(num_K))
    nearest = min(_NEAREST_CENTRES, len(centre_KD) - 1)
    if nearest:
        cosine_KK = (centre_KD @ centre_KD.T).astype(np.float64) / scale**2
        np.fill_diagonal(cosine_KK, -np.inf)
        best_KK = np.sort(cosine_KK, axis=1)[:, ::-1][:, :nearest]
        between_K[there_K] = 1.0 - best_KK.sum(axis=1) / nearest
    # Rounded: an exponential differs in its last bit from one C library to the next.
    power = [float(f"{math.exp(a * b / _TEMPERATURE):.9g}") for a, b in zip(own_K, between_K)]  # noqa: B905
    weight_K = np.where(there_K, np.array(power), 0.0)
    quota_K: NDArray[np.float64] = weight_K / math.fsum(weight_K.tolist()) * len(cells.cell_C)
    return quota_K


DECORRELATE: Final = Selector(
    name="decorrelate", version=1, needs=frozenset({"means"}), of="clips", score=_decorrelate
)
"""What correlates least with the rest first (PRISM, ACL 2026)."""

CLUSTER_QUOTA: Final = Selector(
    name="cluster_quota", version=1, needs=frozenset({"means"}), of="clips", score=_cluster_quota
)
"""A quota of each cell of similar clips (SemDeDup, density-based pruning)."""
