"""Selector coverage: clips that stand for as many of the others as well as can be.

Shapes: C clips, M of a cell, J of these whose best likeness has changed, D width.

The value of a set is the sum over all clips of the highest cosine (0 or more) with a clip of the
set: facility location. Greedy takes at each step the clip that adds most, which is at least
1 - 1/e of the best there is. Up to EXACT_CLIPS clips all stand for all; beyond, within cells of
similar clips, where merging the cells' own orders by what each step adds is greedy over all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.selectors.base import Candidates, Selector
from vxp_data.core.selectors.cells import find_cells, split
from vxp_data.core.selectors.grid import grid_scale, on_grid

EXACT_CLIPS: Final = 20_000
"""Their cosines take 1.6 GB."""
_VALUES_AT_ONCE: Final = 1 << 22


def _coverage(candidates: Candidates) -> NDArray[np.float64]:
    num_clips = candidates.num_clips
    if num_clips <= EXACT_CLIPS:
        parts = [np.arange(num_clips)]
    else:
        parts = split(find_cells(candidates), candidates)
    gain_C = np.empty(num_clips)
    for member_M in parts:
        vector_MD = on_grid(candidates.mean_CD[member_M])
        gain_C[member_M] = greedy_gains(vector_MD @ vector_MD.T)
    return gain_C / grid_scale(candidates.mean_CD.shape[1]) ** 2


def greedy_gains(product_MM: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each clip adds when greedy takes it, until all are taken.

    Falls from step to step, so that sorting by it gives greedy's order; where several add the same,
    any order among them is greedy's.

    What every clip would add is kept, and only mended for those clips whose best likeness a step
    has changed: exact, without asking again and again as a lazy heap does, and not slow where many
    add nearly the same.

    Args:
        product_MM: float32 whole numbers, symmetric; negative ones count as 0. Is changed.
    """
    np.maximum(product_MM, 0, out=product_MM)
    num = len(product_MM)
    best_M = np.zeros(num, dtype=np.float32)
    adds_M = product_MM.sum(axis=0, dtype=np.float64)
    gain_M = np.empty(num)
    for _ in range(num):
        taken = int(adds_M.argmax())
        gain_M[taken] = adds_M[taken]
        better_M = product_MM[taken] > best_M
        changed_J = np.flatnonzero(better_M)
        for start in range(0, len(changed_J), step := max(1, _VALUES_AT_ONCE // num)):
            adds_M -= _lost(product_MM, changed_J[start : start + step], best_M, taken)
        best_M[changed_J] = product_MM[taken][changed_J]
        adds_M[taken] = -np.inf
    return gain_M


def _lost(
    product_MM: NDArray[np.float32],
    changed_J: NDArray[np.intp],
    best_M: NDArray[np.float32],
    taken: int,
) -> NDArray[np.float64]:
    """Return by how much less every clip adds, since some are better stood for than before.

    A clip that is p alike one whose best was a and is b now added max(p - a, 0) there, and adds
    max(p - b, 0): the difference is p, cut to [a, b], less a.
    """
    before_J, now_J = best_M[changed_J, None], product_MM[taken][changed_J, None]
    part_JM = product_MM[changed_J]
    np.clip(part_JM, before_J, now_J, out=part_JM)
    part_JM -= before_J
    lost_M: NDArray[np.float64] = part_JM.sum(axis=0, dtype=np.float64)
    return lost_M


COVERAGE: Final = Selector(
    name="coverage", version=1, needs=frozenset({"means"}), of="clips", score=_coverage
)
"""What stands for most of the rest first."""
