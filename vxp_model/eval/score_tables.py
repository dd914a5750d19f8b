"""What `vxp-model score` prints: figures with intervals, by category, and what went wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vxp_model.eval.benchmarks.base import Scored
from vxp_model.eval.scores import Measured, ScoredFigure, Scores
from vxp_model.eval.statistics import BOOTSTRAP, WILSON, Interval
from vxp_model.eval.text_tables import WIDTH, shortened, table

_MOST_LISTED: Final = 20
"""Replies that cannot be read, as they are printed; scores.json has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTable:
    """One figure by the parts of a split, such as accuracy by task."""

    figure: str
    """Name of the figure, such as 'accuracy'."""
    split: str
    rows: tuple[tuple[str, ScoredFigure], ...]
    """(part, its figure), in the summary's order."""
    whole: ScoredFigure | None
    """The same figure over all questions, where the summary has it."""

    @property
    def mean(self) -> float:
        """Mean of the parts, each counted once however many questions it has."""
        values = [one.asked.value for _, one in self.rows if one.asked.figure.num_questions]
        return sum(values) / len(values) if values else math.nan

    @property
    def num_parts(self) -> int:
        """Parts in that mean: those with an answer."""
        return sum(one.asked.figure.num_questions > 0 for _, one in self.rows)


def split_figures(scores: Scores) -> tuple[list[ScoredFigure], list[SplitTable]]:
    """Return the figures that stand for themselves, and those of the parts of splits, as tables."""
    places = places_of([one.name for one in scores.figures], scores.scored)
    alone: list[ScoredFigure] = []
    tables: dict[tuple[str, str], list[tuple[str, ScoredFigure]]] = {}
    for one in scores.figures:
        place = places[one.name]
        if place is None:
            alone.append(one)
        else:
            figure, split, part = place
            tables.setdefault((figure, split), []).append((part, one))
    whole = {one.name: one for one in alone}
    return alone, [
        SplitTable(figure=figure, split=split, rows=tuple(rows), whole=whole.get(figure))
        for (figure, split), rows in tables.items()
    ]


def places_of(
    names: Sequence[str], scored: Sequence[Scored]
) -> dict[str, tuple[str, str, str] | None]:
    """Return (figure, split, part) of each name of a summary; None: it stands for itself.

    The one that the benchmark is known by stands for itself, and what is split like it does too:
    'IoU, chain 1' beside 'IoU, chain 2', where there is no 'IoU' of both.

    Args:
        names: of the summary's figures, in its order.
        scored: the questions, which say what splits there are.
    """
    parts = _parts(scored)
    placed = {name: _placed(name, parts) for name in names}
    first = placed[names[0]] if names else None
    kept = None if first is None else first[1]
    return {name: None if at is None or at[1] == kept else at for name, at in placed.items()}


def describe(scores: Scores) -> str:
    """Return the scores as text of at most 100 columns, without a line end at the end."""
    alone, tables = split_figures(scores)
    lines = [*_heading(scores), "", *table(_rows("figure", alone, with_all=bool(scores.missing)))]
    for one in tables:
        heading = f"{one.figure} by {one.split}"
        parts = [
            ScoredFigure(name=part, asked=found.asked, all=found.all) for part, found in one.rows
        ]
        rows = _rows(heading, parts, with_all=bool(scores.missing))
        rows += _averages(one, len(rows[0]))
        lines += ["", *table(rows)]
    hows = {one.asked.interval.how for one in scores.figures}
    if hows & {WILSON, BOOTSTRAP}:
        lines += ["", *_explained(hows)]
    if scores.unparsed:
        lines += ["", *_unparsed(scores)]
    return "\n".join(lines)


def value_text(value: float, *, is_share: bool, digits: int = 2) -> str:
    """Return a figure as people read it: percent, or a number; a dash where there is none."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf"
    return f"{value * 100:.{digits}f} %" if is_share else f"{value:.{digits + 1}f}"


def interval_text(found: Interval, *, is_share: bool) -> str:
    """Return an interval as people read it; a dash where there is none."""
    if math.isnan(found.low):
        return "-"
    low, high = (
        value_text(limit, is_share=is_share, digits=1 if is_share else 2).removesuffix(" %")
        for limit in (found.low, found.high)
    )
    return f"{low} to {high}"


def _parts(scored: Sequence[Scored]) -> dict[str, set[str]]:
    """Return the parts of each split."""
    parts: dict[str, set[str]] = {}
    for one in scored:
        for split, part in one.question.groups.items():
            parts.setdefault(split, set()).add(part)
    return parts


def _placed(name: str, parts: Mapping[str, set[str]]) -> tuple[str, str, str] | None:
    """Return (figure, split, part) of the name of a figure over a part; None: it is over all.

    The part may have a comma in it: what begins first is tried first.
    """
    at = name.find(", ")
    while at >= 0:
        rest = name[at + 2 :]
        for split, names in parts.items():
            if rest.startswith(f"{split} ") and rest[len(split) + 1 :] in names:
                return name[:at], split, rest[len(split) + 1 :]
        at = name.find(", ", at + 1)
    return None


def _heading(scores: Scores) -> Iterator[str]:
    yield f"{scores.benchmark}, counted by convention {scores.convention!r}"
    missing = scores.num_questions - scores.num_answered
    reasons = ", ".join(f"{reason} {len(ids):,}" for reason, ids in scores.missing.items())
    yield (
        f"{scores.num_questions:,} questions about {scores.num_videos:,} videos; "
        f"{scores.num_answered:,} answered"
        + (f", {missing:,} without an answer ({reasons})" if missing else "")
    )
    if scores.is_part:
        yield (
            f"not the whole benchmark of {scores.num_published:,} questions: no figures to put "
            "beside published ones"
        )
    for what, number in (
        ("cannot be read, counted as wrong", len(scores.unparsed)),
        ("cut off at the most new tokens", len(scores.cut)),
        ("waiting for a judge (--judge), in no figure", len(scores.unjudged)),
        ("right answers kept by the makers, in no figure", scores.num_withheld),
    ):
        if number:
            yield f"{what}: {number:,}"


def _rows(heading: str, figures: Sequence[ScoredFigure], *, with_all: bool) -> list[list[str]]:
    rows = [[heading, "questions", "value", "95 % interval"] + ["over all"] * with_all]
    for one in figures:
        measured, is_share = one.asked, one.asked.is_share
        cells = [one.name, f"{measured.figure.num_questions:,}"]
        cells.append(value_text(measured.value, is_share=is_share))
        cells.append(interval_text(measured.interval, is_share=is_share))
        if with_all:
            cells.append(value_text(one.all.value, is_share=one.all.is_share))
        rows.append(cells)
    return rows


def _averages(one: SplitTable, num_columns: int) -> list[list[str]]:
    """Return both averages: of the parts, and of the questions."""
    rest = [""] * (num_columns - 3)
    measured: Measured = one.rows[0][1].asked
    rows = [[f"mean of the {one.num_parts}", "", _same(one.mean, measured), *rest]]
    if one.whole is not None:
        whole = one.whole.asked
        value = value_text(whole.value, is_share=whole.is_share)
        rows.append(["over questions", f"{whole.figure.num_questions:,}", value, *rest])
    return rows


def _same(value: float, measured: Measured) -> str:
    return value_text(value, is_share=measured.is_share)


def _explained(hows: set[str]) -> Iterator[str]:
    if WILSON in hows:
        yield "Intervals of plain shares are Wilson's; they take the questions to be independent."
    if BOOTSTRAP in hows:
        which = "Those of other figures are" if WILSON in hows else "Intervals are"
        yield f"{which} percentiles of a bootstrap over videos, 2,000 resamples."


def _unparsed(scores: Scores) -> Iterator[str]:
    more = len(scores.unparsed) - _MOST_LISTED
    yield "Replies that say nothing that can be read:"
    for name, reply in scores.unparsed[:_MOST_LISTED]:
        yield shortened(f"  {name}: {reply!r}", WIDTH)
    if more > 0:
        yield f"  and {more:,} more, in scores.json"
