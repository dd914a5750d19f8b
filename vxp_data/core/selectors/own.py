"""Selectors that look at each clip by itself, or at none: intra, intra_by_duration, random.

Shapes: N rows, C clips, Q strata.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.seeds import hash64
from vxp_data.core.selectors.base import Candidates, Selector
from vxp_data.core.selectors.ranks import quantiles_in

MAX_STRATA: Final = 10
MIN_IN_STRATUM: Final = 20
"""Clips; a share of fewer says little."""


def _intra(candidates: Candidates) -> NDArray[np.float64]:
    return -candidates.redundancy_C


def duration_strata(duration_s_C: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each clip's stratum of duration, from the shortest: as many clips in each as can be.

    At most MAX_STRATA, of MIN_IN_STRATUM clips or more; clips of one length are in one stratum.
    """
    number = max(1, min(MAX_STRATA, len(duration_s_C) // MIN_IN_STRATUM))
    sorted_C = np.sort(duration_s_C)
    edge_Q = sorted_C[[len(sorted_C) * q // number for q in range(1, number)]]
    return np.searchsorted(edge_Q, duration_s_C, side="right").astype(np.int64)


def _intra_by_duration(candidates: Candidates) -> NDArray[np.float64]:
    # Over rows, not clips: a share is one of rows, and a clip's rows lie in the middle of theirs.
    stratum_C = duration_strata(candidates.duration_s_C)
    quantile_N = quantiles_in(
        candidates.of_rows(candidates.redundancy_C), candidates.of_rows(stratum_C)
    )
    score_C = np.empty(candidates.num_clips)
    score_C[candidates.clip_N] = -quantile_N
    return score_C


def _random(candidates: Candidates) -> NDArray[np.float64]:
    keys = (hash64("random", candidates.seed, name) for name in candidates.clip_name_C.tolist())
    return np.fromiter((key / 2**64 for key in keys), np.float64, candidates.num_clips)


INTRA: Final = Selector(
    name="intra", version=1, needs=frozenset(), of="clips", score=_intra
)  # fmt: skip
"""Least redundant by the run's measure first: what is done where no selector is named."""

INTRA_BY_DURATION: Final = Selector(
    name="intra_by_duration", version=1, needs=frozenset(), of="clips", score=_intra_by_duration
)
"""The same, and the same share of each stratum of duration."""

RANDOM: Final = Selector(name="random", version=1, needs=frozenset(), of="clips", score=_random)
"""Clips in an order drawn by `seed` and their content, with all of their rows."""
