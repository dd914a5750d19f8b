"""Threshold policies: which rows of a task subset stay, given how redundant each is.

Shapes: N rows of one subset.

A policy sees *redundancy*, oriented so that higher means more redundant, and keeps the low end; a
larger value never drops a row that a smaller one keeps. `cut` is the way in for scores in a
measure's own units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.similarity import Measure
from vxp_data.errors import UserError
from vxp_data.registry import THRESHOLDS

_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_WHOLE: Final = re.compile(r"[0-9]+")
_PERCENT: Final = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)%")

_WANTED: Final[dict[str, tuple[str, Callable[[float], bool]]]] = {
    "quantile": ("a quantile in [0, 1]", lambda value: 0 <= value <= 1),
    "share": ("a share in (0, 1]", lambda value: 0 < value <= 1),
    "count": ("a whole number of rows, 0 or more", lambda value: value >= 0 and value % 1 == 0),
}


@dataclass(frozen=True, slots=True)
class ThresholdSpec:
    """One threshold as a user gives it; `str()` is its canonical text.

    Texts: fixed '0.8', quantile 'q0.5', share '50%', count '1000'. `parse_threshold` reads the
    first two, `parse_keep` the last two, to an equal spec.
    """

    policy: str
    """A name in registry.THRESHOLDS."""

    value: float
    """fixed: in the measure's own units. quantile: [0, 1], of redundancy. share: (0, 1] of the
    subset's rows. count: whole number of rows, 0 or more."""

    def __post_init__(self) -> None:
        THRESHOLDS.require(self.policy)
        wanted, fits = _WANTED.get(self.policy, ("a finite number", math.isfinite))
        if not fits(self.value):  # NaN fits nowhere
            raise UserError(f"threshold {self.policy}: got {self.value!r}, wanted {wanted}.")

    def __str__(self) -> str:
        if self.policy == "fixed":
            return repr(float(self.value))
        if self.policy == "quantile":
            return f"q{float(self.value)!r}"
        if self.policy == "share":
            return f"{(Decimal(repr(float(self.value))) * 100).normalize():f}%"
        if self.policy == "count":
            return str(int(self.value))
        return f"{self.policy}:{float(self.value)!r}"


def parse_threshold(text: str) -> ThresholdSpec:
    """Read a threshold on the score: '0.80' (fixed, the measure's units) or 'q0.5' (quantile).

    Raises:
        UserError: the text is neither, or the number is out of range.
    """
    bare = text.strip()
    policy, number = ("quantile", bare[1:]) if bare[:1] in ("q", "Q") else ("fixed", bare)
    if not _NUMBER.fullmatch(number):
        raise UserError(
            f"threshold: got {text!r}, wanted a score such as '0.80' or a quantile such as 'q0.5'. "
            "To keep a share or a number of rows, use `keep`."
        )
    return _spec(policy, float(number), text)


def parse_keep(text: str) -> ThresholdSpec:
    """Read how much to keep: '0.5' or '50%' (share of the rows), '1000' (number of rows).

    Digits alone are a number of rows: '1' keeps one row, '1.0' and '100%' keep all.

    Raises:
        UserError: the text is none of these, or the number is out of range.
    """
    bare = text.strip()
    if _WHOLE.fullmatch(bare):
        return _spec("count", float(bare), text)
    if _PERCENT.fullmatch(bare):
        return _spec("share", float(Decimal(bare[:-1]) / 100), text)  # decimal: 7% is 0.07
    if _NUMBER.fullmatch(bare):
        return _spec("share", float(bare), text)
    raise UserError(
        f"keep: got {text!r}, wanted a share such as '0.5' or '50%', or a number of rows such "
        "as '1000'."
    )


def _spec(policy: str, value: float, text: str) -> ThresholdSpec:
    try:
        return ThresholdSpec(policy, value)
    except UserError as error:
        raise UserError(f"{text!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a subset was cut.

    Attributes:
        threshold: in the units of the numbers given. Of fixed and quantile: kept rows are on this
            side of it or at it. Of share and count: the last kept row's; rows tied with it may be
            on either side; beyond every row (infinite) when none is kept. NaN for a subset
            without rows.
        keep_N: bool, in input order.
    """

    threshold: float
    keep_N: NDArray[np.bool_]


Policy = Callable[[NDArray[np.float64], Sequence[str], float], Cut]
"""(redundancy_N, sample_ids, value) -> Cut, threshold in units of redundancy."""


def cut(
    spec: ThresholdSpec, score_N: NDArray[np.float64], sample_ids: Sequence[str], measure: Measure
) -> Cut:
    """Cut one subset by a measure's scores.

    The only place where a measure's direction matters: fixed values and thresholds are in the
    measure's own units (effective_frames, fixed 5.0: keep >= 5.0); quantile, share and count
    always count from the least redundant row.

    Args:
        spec: the policy and its value.
        score_N: float64, the measure's scores, finite.
        sample_ids: N unique names; break ties for share and count, smaller first kept.
        measure: whose scores they are.

    Returns:
        Cut with the threshold in the measure's own units.

    Raises:
        ValueError: a score is NaN or infinite, or lengths differ.
        UserError: a fixed value outside the measure's range, which would keep all or nothing.
    """
    if not len(score_N) == len(sample_ids):
        raise ValueError(f"got {len(score_N)} scores and {len(sample_ids)} sample ids")
    if not (finite_N := np.isfinite(score_N)).all():
        bad = int(finite_N.argmin())
        raise ValueError(f"score of sample {sample_ids[bad]!r} is {score_N[bad]}, not finite")
    check_range(spec, measure)
    value = measure.redundancy(spec.value) if spec.policy == "fixed" else spec.value
    policy: Policy = THRESHOLDS.load(spec.policy)
    done = policy(measure.redundancy(score_N), sample_ids, value)
    return Cut(measure.own_units(done.threshold), done.keep_N)


def check_range(spec: ThresholdSpec, measure: Measure) -> None:
    """Check that a fixed threshold lies in the measure's range.

    Raises:
        UserError: it does not, so it would keep everything or nothing.
    """
    if spec.policy == "fixed" and not measure.low <= spec.value <= measure.high:
        raise UserError(
            f"threshold: got {spec.value:g}, but {measure.name} lies in "
            f"[{measure.low:g}, {measure.high:g}]; wanted a value in that range."
        )


def fixed(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep rows with redundancy <= value."""
    del sample_ids  # ties are all on one side
    return Cut(value if len(redundancy_N) else math.nan, redundancy_N <= value)


def quantile(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep rows with redundancy <= their quantile `value` in [0, 1] (numpy's 'linear')."""
    if len(redundancy_N) == 0:
        return fixed(redundancy_N, sample_ids, math.nan)
    return fixed(redundancy_N, sample_ids, float(np.quantile(redundancy_N, value)))


def share(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep exactly floor(value * N + 0.5) rows, least redundant first; value in (0, 1]."""
    return count(redundancy_N, sample_ids, math.floor(value * len(redundancy_N) + 0.5))


def count(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep exactly min(value, N) rows, least redundant first, ties by smaller sample_id."""
    num_rows = len(redundancy_N)
    num_kept = min(int(value), num_rows)
    if num_kept == 0:
        return Cut(-math.inf if num_rows else math.nan, np.zeros(num_rows, dtype=np.bool_))
    last = float(np.partition(redundancy_N, num_kept - 1)[num_kept - 1])
    keep_N = redundancy_N < last
    # Only rows tied with the last one need their names sorted: a million rows take milliseconds.
    tied = sorted(np.flatnonzero(redundancy_N == last).tolist(), key=lambda row: sample_ids[row])
    keep_N[tied[: num_kept - int(keep_N.sum())]] = True
    return Cut(last, keep_N)
