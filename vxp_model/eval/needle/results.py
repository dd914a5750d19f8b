"""From trials to figures: right or wrong by each rule, cells, grid means, what guessing gives.

Shape suffixes: D depths, L lengths.
"""

from __future__ import annotations

import math
import statistics as of_numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_model.eval.benchmarks.base import Figure, Unit
from vxp_model.eval.benchmarks.letters import read_letter
from vxp_model.eval.benchmarks.published import holds_letter
from vxp_model.eval.needle.needles import LETTERS
from vxp_model.eval.statistics import bootstrap

GENERATION: Final = "generation"
VIDEO_XL: Final = "video-xl"
OPTIONS: Final = "options"
FORCED: Final = "forced"
SCORES: Final[Mapping[str, str]] = {
    GENERATION: "the letter that the reply names",
    VIDEO_XL: "Video-XL's rule: the gold letter stands somewhere before the first ')'",
    OPTIONS: "the option that the model finds likeliest",
    FORCED: "LongVA's rule: every token of the gold answer, without options, is the likeliest",
}
_PERCENTILES: Final = (0.025, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A trial, and what it is worth by each rule."""

    row: Mapping[str, Any]
    parsed: str | None
    """The letter that the reply names; None: none that is clear."""
    scores: Mapping[str, float]
    """0 or 1, by a name of SCORES; a rule that was not asked for is absent."""

    @property
    def drawn(self) -> str:
        """Which drawing of which needle: its trials stand or fall together."""
        return f"{self.row['needle']}-seed{self.row['seed']}"


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    """Return what a line of trials.jsonl is worth."""
    options, gold, reply = row["options"], row["gold"], row["reply"]
    parsed = read_letter(reply, options, LETTERS[: len(options)])
    scores = {
        GENERATION: float(parsed == gold),
        VIDEO_XL: float(holds_letter(reply, gold)),
    }
    if row["log_probs"] is not None:
        best = max(range(len(options)), key=row["log_probs"].__getitem__)
        scores[OPTIONS] = float(LETTERS[best] == gold)
    if row["forced"] is not None:
        scores[FORCED] = float(row["forced"]["is_greedy"])
    return Outcome(row=row, parsed=parsed, scores=scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Means over a grid."""

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    """Shares; empty where there are chains alone, which have none: one row then."""
    mean_DL: NDArray[np.float64]
    """NaN where there is no trial."""

    @property
    def grid_mean(self) -> float:
        """Mean over the cells, as LongVA's 'overall' is; NaN without any."""
        known = self.mean_DL[~np.isnan(self.mean_DL)]
        return float(known.mean()) if known.size else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One kind of needles by one rule."""

    num_trials: int
    accuracy: float
    interval_95: tuple[float, float] | None
    """By a bootstrap over drawings of needles; None where there is one drawing alone."""
    control: float
    """Share right without the needle, of the same questions, lengths weighted as in `accuracy`;
    NaN without control."""
    above_control: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleResult:
    """All trials of a grid."""

    outcomes: tuple[Outcome, ...]

    @property
    def scores(self) -> list[str]:
        """Names of the rules that every trial was scored by."""
        return [name for name in SCORES if all(name in one.scores for one in self.outcomes)]

    def trials(self, *, chains: bool, control: bool = False) -> list[Outcome]:
        """Return the trials of single needles, or of chains; with their needles or without."""
        return [
            one
            for one in self.outcomes
            if one.row["is_chain"] == chains and one.row["is_control"] == control
        ]

    def cells(self, score: str, *, chains: bool = False) -> Cells:
        """Return the mean score of every length and depth."""
        return cells_of(self.trials(chains=chains), lambda one: one.scores[score])

    def summary(self, score: str, *, chains: bool = False) -> Summary:
        """Return the share right over all trials, and what it is above guessing."""
        trials = self.trials(chains=chains)
        accuracy = _mean(one.scores[score] for one in trials)
        guessed = self._control_by_place(score, chains)
        control = _mean(guessed.get(_asked(one), math.nan) for one in trials)
        return Summary(
            num_trials=len(trials),
            accuracy=accuracy,
            interval_95=drawn_interval([(one.drawn, one.scores[score]) for one in trials]),
            control=control,
            above_control=accuracy - control,
        )

    def both_right(self, score: str) -> float:
        """Return the share of chains of which both questions are right; NaN without chains."""
        by_video: dict[tuple[Any, ...], list[float]] = {}
        for one in self.trials(chains=True):
            place = tuple(one.row[name] for name in ("length", "needle", "seed", "offset"))
            by_video.setdefault(place, []).append(one.scores[score])
        return _mean(min(scores) for scores in by_video.values())

    def by(self, field: str, score: str, *, chains: bool = False) -> dict[str, float]:
        """Return the share right by a field of the trials, such as 'needle' or 'in_group'."""
        parts: dict[str, list[float]] = {}
        for one in self.trials(chains=chains):
            parts.setdefault(str(one.row[field]), []).append(one.scores[score])
        return {name: _mean(scores) for name, scores in parts.items()}

    @property
    def num_unparsed(self) -> int:
        """Replies that name no option: wrong."""
        return sum(one.parsed is None for one in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as JSON values; what is over nothing is null."""
        kinds = {"single": False, "chains": True}
        found: dict[str, Any] = {"trials": len(self.outcomes), "unparsed": self.num_unparsed}
        for kind, chains in kinds.items():
            if self.trials(chains=chains):
                found[kind] = {name: self._figures(name, chains) for name in self.scores}
        return found

    def _figures(self, score: str, chains: bool) -> dict[str, Any]:
        summary, cells = self.summary(score, chains=chains), self.cells(score, chains=chains)
        figures: dict[str, Any] = {
            "rule": SCORES[score],
            "trials": summary.num_trials,
            "accuracy": or_null(summary.accuracy),
            "interval_95": summary.interval_95,
            "control": or_null(summary.control),
            "above_control": or_null(summary.above_control),
            "grid_mean": or_null(cells.grid_mean),
            "lengths": cells.lengths,
            "depths": cells.depths,
            "cells": [[or_null(value) for value in row] for row in cells.mean_DL.tolist()],
            "by_needle": self.by("needle", score, chains=chains),
            "by_place_in_group": {} if chains else self.by("in_group", score),
        }
        if chains:
            figures["both_right"] = or_null(self.both_right(score))
        return figures

    def _control_by_place(self, score: str, chains: bool) -> dict[tuple[Any, ...], float]:
        trials = self.trials(chains=chains, control=True)
        return {_asked(one): one.scores[score] for one in trials}


def cells_of(trials: Sequence[Outcome], value: Callable[[Outcome], float]) -> Cells:
    """Return the mean value of every length and depth."""
    parts: dict[tuple[float | None, int], list[float]] = {}
    for one in trials:
        parts.setdefault((one.row["depth"], one.row["length"]), []).append(value(one))
    lengths = tuple(sorted({length for _, length in parts}))
    depths = tuple(sorted({depth for depth, _ in parts if depth is not None}))
    rows: Sequence[float | None] = depths or (None,)
    mean_DL = [[_mean(parts.get((depth, length), ())) for length in lengths] for depth in rows]
    return Cells(lengths=lengths, depths=depths, mean_DL=np.array(mean_DL, dtype=np.float64))


def drawn_interval(values: Iterable[tuple[str, float]]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean, by a bootstrap over drawings.

    Args:
        values: (what was drawn, a trial's value); trials with one drawing are taken or left at
            once, for they are no independent evidence.

    Returns:
        None where there are fewer than two drawings.
    """
    units = [Unit(value=value, video=drawn) for drawn, value in values]
    if len({unit.video for unit in units}) < 2:
        return None
    value_R = bootstrap(Figure.of("mean", units))
    low, high = np.quantile(value_R, _PERCENTILES)
    return float(low), float(high)


def or_null(value: float) -> float | None:
    """Return a number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def _asked(one: Outcome) -> tuple[Any, ...]:
    return tuple(one.row[name] for name in ("length", "needle", "question", "seed"))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return of_numbers.fmean(numbers) if numbers else math.nan
