"""Selectors that judge each row, not its clip alone: gdo_lite, text_blind.

Shapes: N rows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.selectors.base import Candidates, Selector
from vxp_data.core.selectors.ranks import quantiles, quantiles_in


def _gdo_lite(candidates: Candidates) -> NDArray[np.float64]:
    """Score by the mean of three quantiles, ranked within each dataset.

    Source:
        GDO (https://arxiv.org/abs/2603.12478) without the three signals that need a model's
        answers: motion, diversity of frames, whether the question needs time; quotas by source.
    """
    facts = (
        candidates.of_rows(candidates.change_C),
        candidates.of_rows(candidates.effective_frames_C),
        candidates.needs_time_N,
    )
    together_N = sum((quantiles(fact_N) for fact_N in facts), start=np.zeros(len(candidates)))
    names = {name: number for number, name in enumerate(sorted(set(candidates.dataset_N.tolist())))}
    of_dataset = (names[name] for name in candidates.dataset_N.tolist())
    dataset_N = np.fromiter(of_dataset, np.int64, len(candidates))
    return quantiles_in(np.round(together_N, 12), dataset_N) - 1.0


def _text_blind(candidates: Candidates) -> NDArray[np.float64]:
    """Score by the user's file, of equal ones the least redundant first."""
    keys = np.stack([-candidates.of_rows(candidates.redundancy_C), candidates.outside_N])
    order_N = np.lexsort(keys)  # by the last key first
    sorted_2N = keys[:, order_N]
    differs_N = np.append(False, (sorted_2N[:, 1:] != sorted_2N[:, :-1]).any(axis=0))
    score_N = np.empty(len(candidates))
    score_N[order_N] = np.cumsum(differs_N)
    return score_N


GDO_LITE: Final = Selector(
    name="gdo_lite",
    version=2,
    needs=frozenset({"frame_statistics", "text"}),
    of="rows",
    score=_gdo_lite,
)
"""What moves, varies and is asked about time first; each dataset at its share."""

TEXT_BLIND: Final = Selector(
    name="text_blind", version=1, needs=frozenset({"scores"}), of="rows", score=_text_blind
)
"""What the user's file calls answerable without the video last."""
