"""How far chance may have moved a figure, and whether two figures differ by more than chance.

Chance is taken to be a draw of videos: questions about one video stand or fall together, so that
resampling takes or leaves all of a video's questions at once. A share of right answers in which
every question counts once has Wilson's interval, which is also right near 0 and 1, but takes the
questions to be independent.

Shape suffixes: R resamples, V videos, P parts of a figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vxp_model.eval.benchmarks.base import COMBINE, Figure

NORMAL_95: Final = 1.959963984540054
"""Standard deviations to either side that hold 95 % of a normal distribution."""

WILSON: Final = "wilson"
BOOTSTRAP: Final = "bootstrap over videos"
NONE: Final = "none"
"""Nothing can be said: no questions, all of them about one video, or all worth the same."""

_NUM_RESAMPLES: Final = 2000
_BLOCK_DRAWS: Final = 1 << 22
"""Videos drawn at once: 32 MiB."""


class Interval(NamedTuple):
    """Where a figure may lie: in 95 of 100 repetitions it holds the true one."""

    low: float
    high: float
    how: str
    """WILSON, BOOTSTRAP or NONE; with NONE both limits are NaN."""


def wilson(right: float, asked: int, *, deviations: float = NORMAL_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), with p = right / asked, n = asked.

    Args:
        right: of those asked.
        asked: 1 or more.
        deviations: z; 95 % by default.

    Source:
        E. B. Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    share, z2 = right / asked, deviations**2
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    half *= deviations / (1 + z2 / asked)
    # At shares of 0 and 1 a limit is the share itself, which rounding misses by a hair.
    return (0.0 if right == 0 else middle - half), (1.0 if right == asked else middle + half)


def is_plain_share(figure: Figure) -> bool:
    """Whether a figure is one share of questions that are each right or wrong."""
    if len(figure.parts) != 1 or not figure.is_share:
        return False
    return all(unit.num_questions == 1 and unit.value in (0.0, 1.0) for unit in figure.parts[0])


def interval(figure: Figure, *, num_resamples: int = _NUM_RESAMPLES, seed: int = 0) -> Interval:
    """Return a figure's 95 % interval.

    Wilson's for a plain share, else the percentiles of a bootstrap over videos; the same figure
    has the same interval, whatever the order of its units.

    Args:
        figure: of any formula.
        num_resamples: R.
        seed: of the resamples.
    """
    units = figure.parts[0] if figure.parts else ()
    if units and is_plain_share(figure):
        return Interval(*wilson(sum(unit.value for unit in units), len(units)), WILSON)
    if len(_videos([figure])) < 2:
        return Interval(math.nan, math.nan, NONE)
    value_R = bootstrap(figure, num_resamples=num_resamples, seed=seed)
    if len({unit.value for part in figure.parts for unit in part}) == 1:
        return Interval(math.nan, math.nan, NONE)  # no draw differs: that is not certainty
    return Interval(*_percentiles(value_R), BOOTSTRAP)


def bootstrap(
    figure: Figure, *, num_resamples: int = _NUM_RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return a figure's value over videos drawn with replacement.

    A resample gives video v the weight w_v, how often it was drawn: w ~ multinomial(V, 1/V). The
    mean of a part is Σ w_v s_v / Σ w_v n_v, with s_v the sum and n_v the number of v's units in it;
    parts without a drawn unit do not count, and the rest are combined as the figure says.

    Returns:
        value_R: float64; NaN where no unit at all was drawn.

    Source:
        B. Efron and R. Tibshirani, An introduction to the bootstrap (1993), chapter 13; clusters
        as in A. C. Davison and D. V. Hinkley, Bootstrap methods and their application (1997), 3.8.
    """
    return _resampled([figure], num_resamples=num_resamples, seed=seed)[0]


def standard_error(figure: Figure, *, num_resamples: int = _NUM_RESAMPLES, seed: int = 0) -> float:
    """Return the standard deviation of `bootstrap`; NaN where all is about one video."""
    if len(_videos([figure])) < 2:
        return math.nan
    value_R = bootstrap(figure, num_resamples=num_resamples, seed=seed)
    return float(np.std(value_R[np.isfinite(value_R)], ddof=1))


def difference(
    before: Figure, after: Figure, *, num_resamples: int = _NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """Return the 95 % interval of `after` - `before`, by a paired bootstrap over videos.

    Both are worked out over the same draw of videos each time, so that what makes a video easy or
    hard for both does not widen the interval.

    Args:
        before: over some questions.
        after: the same figure over the same questions, of other answers.
        num_resamples: R.
        seed: of the resamples.
    """
    if len(_videos([before, after])) < 2:
        return Interval(math.nan, math.nan, NONE)
    before_R, after_R = _resampled([before, after], num_resamples=num_resamples, seed=seed)
    with np.errstate(invalid="ignore"):  # inf - inf
        return Interval(*_percentiles(after_R - before_R), BOOTSTRAP)


def mcnemar_exact(only_before: int, only_after: int) -> float:
    """Return the p-value that two sets of answers to the same questions are equally often right.

    Questions that both have right or wrong say nothing; of the n others, each would be either's by
    a fair coin: p = min(1, 2 Σ_{k ≤ min} C(n, k) / 2ⁿ), exact.

    Args:
        only_before: questions right in the first alone.
        only_after: in the second alone.

    Source:
        Q. McNemar, Note on the sampling error of the difference between correlated proportions or
        percentages (1947); the exact form is the sign test of Cochran (1950).
    """
    num = only_before + only_after
    term = tail = 1
    for k in range(1, min(only_before, only_after) + 1):
        term = term * (num - k + 1) // k
        tail += term
    return min(1.0, 2 * tail / (1 << num))


def _videos(figures: Sequence[Figure]) -> list[str]:
    """Return the videos that figures are about, in an order that is theirs alone."""
    return sorted({unit.video for one in figures for part in one.parts for unit in part})


def _resampled(
    figures: Sequence[Figure], *, num_resamples: int, seed: int
) -> list[NDArray[np.float64]]:
    """Return the values of several figures over the same resamples of all their videos."""
    index = {video: at for at, video in enumerate(_videos(figures))}
    value_FR = [np.full(num_resamples, np.nan) for _ in figures]
    if not index:
        return value_FR
    sums = [_sums(figure, index) for figure in figures]
    rng, num_videos = np.random.default_rng(seed), len(index)
    block = max(1, _BLOCK_DRAWS // num_videos)
    for start in range(0, num_resamples, block):
        num = min(block, num_resamples - start)
        drawn_RV = rng.integers(num_videos, size=(num, num_videos))
        drawn_RV += np.arange(num)[:, None] * num_videos
        weight_RV = np.bincount(drawn_RV.ravel(), minlength=num * num_videos)
        weight_RV = weight_RV.reshape(num, num_videos).astype(np.float64)
        for figure, (sum_PV, num_PV), value_R in zip(figures, sums, value_FR, strict=True):
            with np.errstate(invalid="ignore"):  # 0 / 0: a part of which nothing was drawn
                share_RP = (weight_RV @ sum_PV.T) / (weight_RV @ num_PV.T)
            value_R[start : start + num] = _combined(figure.combine, share_RP)
    return value_FR


def _sums(figure: Figure, index: dict[str, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of each video's units in each part that has any."""
    parts = [part for part in figure.parts if part]
    sum_PV = np.zeros((len(parts), len(index)))
    num_PV = np.zeros_like(sum_PV)
    for at, part in enumerate(parts):
        # In an order of their own, so that sums are the same to the last bit.
        units = sorted((index[unit.video], unit.value) for unit in part)
        video_U = np.array([video for video, _ in units])
        value_U = np.array([value for _, value in units])
        sum_PV[at] = np.bincount(video_U, weights=value_U, minlength=len(index))
        num_PV[at] = np.bincount(video_U, minlength=len(index))
    return sum_PV, num_PV


def _combined(how: str, share_RP: NDArray[np.float64]) -> NDArray[np.float64]:
    if share_RP.shape[1] == 1 and how == "mean":  # most figures
        return share_RP[:, 0]
    combine = COMBINE[how]
    drawn = ([share for share in row if share == share] for row in share_RP.tolist())
    return np.array([combine(shares) if shares else math.nan for shares in drawn])


def _percentiles(value_R: NDArray[np.float64]) -> tuple[float, float]:
    """Return what leaves out 2.5 % of the values at either end."""
    known_R = value_R[~np.isnan(value_R)]
    if not len(known_R):
        return math.nan, math.nan
    # Values that were drawn, not between them: one of them may be infinite.
    low, high = np.quantile(known_R, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
