"""From which likeness on two clips are the same: numbers that each encoder has for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class PairThresholds:
    """What two clips are compared by; see `core.duplicates`."""

    agreement: float
    """Least mean cosine of the frames that lie at the same moment."""
    candidate_cosine: float
    """Least cosine of two means, of clips or of parts of them, for the clips to be compared."""
    contrast: float
    """How unlike two may be, as a share of how unlike the frames of either are among themselves."""


UNTRIED: Final = PairThresholds(agreement=0.9, candidate_cosine=0.93, contrast=0.4)
"""Of encoders with which nothing has been tried."""

TRIED: Final[Mapping[str, PairThresholds]] = {
    "thumbnail": PairThresholds(agreement=0.9, candidate_cosine=0.93, contrast=0.4),
    "efficientnet_lite0": PairThresholds(agreement=0.8, candidate_cosine=0.9, contrast=0.8),
}
"""By encoder. Those of `efficientnet_lite0` were chosen on one half of some clips and checked on
the other (`pipelines/bench/duplicates_lite.py`), those of `thumbnail` chosen on all there were."""

BESIDE: Final = PairThresholds(agreement=0.85, candidate_cosine=0.95, contrast=0.3)
"""Of `thumbnail`'s vectors beside another encoder's, which are made of larger images; chosen and
checked likewise, by what they add to `efficientnet_lite0`."""


def thresholds_of(encoder: str) -> PairThresholds:
    """Return the thresholds of an encoder, by its name."""
    return TRIED.get(encoder, UNTRIED)
