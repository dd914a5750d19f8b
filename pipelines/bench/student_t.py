"""Student's t: intervals of paired differences over seeds, and Holm's correction of many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_STEPS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The mean of paired differences and how sure it is."""

    mean: float
    error: float
    """Standard error of the mean."""
    degrees: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the mean that holds it with this probability."""
        half = quantile(0.5 + level / 2, self.degrees) * self.error
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Probability of a mean as far from 0 or further, were there no difference; two-sided."""
        if not self.error:
            return float(self.mean == 0)
        return 2 * (1 - probability(abs(self.mean) / self.error, self.degrees))


def paired(differences: Sequence[float]) -> Paired:
    """Return the mean of two or more differences, one a seed."""
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return Paired(mean=statistics.fmean(differences), error=error, degrees=len(differences) - 1)


def with_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return a mean over seeds with its 95 % t-interval; none of a single seed."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": round(mean, 4)}
    return {"mean": round(mean, 4), "t_95": [round(end, 4) for end in paired(values).interval()]}


def probability(t: float, degrees: int) -> float:
    """Return the probability of a value below `t`, by Simpson's rule.

    With t = sqrt(degrees) tan(a) the density is a power of the cosine of a, smooth however far out
    t lies: differences that are the same for all seeds but for rounding give a t of 1e15.
    """
    end = math.atan(abs(t) / math.sqrt(degrees))
    at = np.linspace(0.0, end, 2 * _STEPS + 1)
    scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    height = math.exp(scale) / math.sqrt(math.pi)
    density = height * np.cos(at) ** (degrees - 1)
    weight = np.ones(len(at))
    weight[1:-1:2], weight[2:-1:2] = 4, 2
    area = min(0.5, float((density * weight).sum()) * end / (2 * _STEPS) / 3)
    return 0.5 + math.copysign(area, t)


def quantile(share: float, degrees: int) -> float:
    """Return the value below which a share of at least a half lies, by halving."""
    low, high = 0.0, 1.0
    while probability(high, degrees) < share:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def holm(family: Mapping[Any, Paired], level: float = 0.95) -> dict[Any, tuple[float, float]]:
    """Return intervals corrected for their number, step down (Holm 1979).

    The smallest p-value of m gets the interval of level 1 - (1 - level) / m, the next that of
    m - 1, and so on; from the first that holds 0 on, all keep that one's level, so that none after
    it leaves 0 out.
    """
    ordered = sorted(family, key=lambda name: family[name].p_value)
    intervals = {}
    left, failed = len(ordered), False
    for name in ordered:
        intervals[name] = family[name].interval(1 - (1 - level) / left)
        low, high = intervals[name]
        failed = failed or low <= 0 <= high
        left -= not failed
    return intervals
