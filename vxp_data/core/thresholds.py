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
    "knee": ("0: it takes no number", lambda value: value == 0),
    "mixture": ("0: it takes no number", lambda value: value == 0),
}
_TRIMMED: Final = 0.01
"""knee: share of rows at either end that does not count: a few odd videos make no curve."""


@dataclass(frozen=True, slots=True)
class ThresholdSpec:
    """One threshold as a user gives it; `str()` is its canonical text.

    Texts: fixed '0.8', quantile 'q0.5', knee 'knee', share '50%', count '1000', mixture 'mixture',
    any other policy 'NAME:NUMBER'. `parse_keep` reads share, count and mixture, `parse_threshold`
    the others, to an equal spec.
    """

    policy: str
    """A name in registry.THRESHOLDS."""

    value: float
    """fixed: in the measure's own units. quantile: [0, 1], of redundancy. share: (0, 1] of the
    subset's rows. count: whole number of rows, 0 or more. knee, mixture: 0."""

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
        if self.policy in ("knee", "mixture"):
            return self.policy
        return f"{self.policy}:{float(self.value)!r}"


def parse_threshold(text: str) -> ThresholdSpec:
    """Read a threshold on the score: '0.80' (fixed, the measure's units), 'q0.5' or 'knee'.

    'NAME:NUMBER' is any policy of registry.THRESHOLDS: the way to those that packages add.

    Raises:
        UserError: the text is none of these, or the number is out of range.
    """
    bare = text.strip()
    if bare == "knee":
        return ThresholdSpec("knee", 0.0)
    policy, number = ("quantile", bare[1:]) if bare[:1] in ("q", "Q") else ("fixed", bare)
    if ":" in bare:
        policy, _, number = bare.partition(":")
        THRESHOLDS.require(policy)
    if not _NUMBER.fullmatch(number):
        raise UserError(
            f"threshold: got {text!r}, wanted a score such as '0.80', a quantile such as 'q0.5', "
            "'knee', or 'NAME:NUMBER' for another policy. To keep a share or a number of rows, use "
            "`keep`."
        )
    return _spec(policy, float(number), text)


def parse_keep(text: str) -> ThresholdSpec:
    """Read how much to keep: '0.5' or '50%' (share of the rows), '1000' (number of rows).

    Digits alone are a number of rows: '1' keeps one row, '1.0' and '100%' keep all. 'mixture': of
    each dataset as many rows as its mixture states; see core.dataset_rows.

    Raises:
        UserError: the text is none of these, or the number is out of range.
    """
    bare = text.strip()
    if bare == "mixture":
        return ThresholdSpec("mixture", 0.0)
    if _WHOLE.fullmatch(bare):
        return _spec("count", float(bare), text)
    if _PERCENT.fullmatch(bare):
        return _spec("share", float(Decimal(bare[:-1]) / 100), text)  # decimal: 7% is 0.07
    if _NUMBER.fullmatch(bare):
        return _spec("share", float(bare), text)
    raise UserError(
        f"keep: got {text!r}, wanted a share such as '0.5' or '50%', a number of rows such as "
        "'1000', or 'mixture' (of each dataset the rows that its mixture states)."
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
        threshold: in the units of the numbers given. Of fixed, quantile and knee: kept rows are on
            this side of it or at it. Of share and count: the last kept row's; rows tied with it may
            be on either side; beyond every row (infinite) when none is kept. NaN for a subset
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


def mixture(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep all: the rows that a mixture states cut each dataset, see `dataset_rows.cut_to_rows`."""
    del value
    most = float(redundancy_N.max()) if len(redundancy_N) else math.nan
    return fixed(redundancy_N, sample_ids, most)


def knee(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep rows up to the knee of the keep curve: where it turns from flat to steep, or back.

    The curve goes from the threshold to the share of rows kept; the knee is its point furthest from
    the straight line between its ends. Where a few varied videos stand before a heap of similar
    ones, that is the foot of the heap; where a few static ones stand behind a heap of varied ones,
    its far end. On a straight line everything is kept: no point is better than another.

    Source:
        The difference curve of Kneedle (Satopaa et al. 2011), on either side of the line, without
        smoothing. 1 % of the rows at each end is left out of the curve.
    """
    del value
    num_rows = len(redundancy_N)
    if num_rows == 0:
        return fixed(redundancy_N, sample_ids, math.nan)
    sorted_N = np.sort(redundancy_N)
    trimmed = math.floor(_TRIMMED * num_rows)
    inner_M = sorted_N[trimmed : num_rows - trimmed]
    last_M = np.append(inner_M[1:] > inner_M[:-1], True)  # tied rows are kept together
    spread = inner_M[-1] - inner_M[0]
    if spread <= 0 or last_M.sum() < 3:
        return fixed(redundancy_N, sample_ids, float(sorted_N[-1]))
    threshold_K = inner_M[last_M]
    kept_K = np.flatnonzero(last_M) + 1.0
    along_K = (threshold_K - threshold_K[0]) / (threshold_K[-1] - threshold_K[0])
    up_K = (kept_K - kept_K[0]) / (kept_K[-1] - kept_K[0])
    off_K = np.round(np.abs(up_K - along_K), 12)
    if off_K.max() == 0:
        return fixed(redundancy_N, sample_ids, float(sorted_N[-1]))
    furthest = len(off_K) - 1 - int(off_K[::-1].argmax())  # of several, the one that keeps most
    return fixed(redundancy_N, sample_ids, float(threshold_K[furthest]))


def keep_order(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str]) -> NDArray[np.intp]:
    """Order rows as they are kept: by redundancy, ties by smaller sample_id.

    The first n of them are those that `count` keeps for any n.
    """
    order_N = np.argsort(redundancy_N, kind="stable")
    sorted_N = redundancy_N[order_N]
    tied_N = np.append(sorted_N[1:] == sorted_N[:-1], False)
    starts = np.flatnonzero(tied_N & ~np.append(False, tied_N[:-1]))
    ends = np.flatnonzero(~tied_N & np.append(False, tied_N[:-1])) + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        run = sorted(order_N[start:end].tolist(), key=lambda row: sample_ids[row])
        order_N[start:end] = run
    return order_N
