"""From answers to scores: a pure function, done again in a moment, with no model and no video.

Each figure is worked out twice: over the questions that were answered, and over all, where one
whose media are missing counts as wrong. Replies that cannot be read are wrong, and listed; what
only a judge can say is left out where there is no judgment, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark, Convention, Figure, Question, Scored
from vxp_model.eval.statistics import Interval, interval

OWN: Final = "ours"
"""The convention of our benchmark itself, in records, tables and for `--compat`."""
UNANSWERED: Final = "unanswered"
"""Why a question counts as missing that a run has not come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure over some of the questions, and how far chance may have moved it."""

    figure: Figure
    value: float
    interval: Interval

    @classmethod
    def of(cls, figure: Figure) -> Measured:
        """Work out a figure's value and interval."""
        return cls(figure=figure, value=figure.value, interval=interval(figure))

    @property
    def is_share(self) -> bool:
        """Whether it lies in [0, 1], and reads well as a percentage."""
        return self.figure.is_share

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; what is not a number is None, infinity is 'inf'."""
        low, high, how = self.interval
        return {
            "questions": self.figure.num_questions,
            "value": _number(self.value),
            # Rounded, so that the last bits of a machine's sums do not show in the file.
            "low": _number(round(low, 6) if math.isfinite(low) else low),
            "high": _number(round(high, 6) if math.isfinite(high) else high),
            "interval": how,
            "is_share": self.is_share,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredFigure:
    """One line of a benchmark's summary."""

    name: str
    asked: Measured
    """Over the questions with an answer."""
    all: Measured
    """Over all; those without an answer are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a run's answers to one benchmark are worth."""

    benchmark: str
    version: int
    """Of the benchmark: of its prompts, parsers and scores."""
    convention: str
    """OWN, or a name in the benchmark's `conventions`."""
    num_questions: int
    num_published: int | None
    """Questions that the whole benchmark has; None: not known."""
    num_videos: int
    num_answered: int
    missing: Mapping[str, tuple[str, ...]]
    """Reason -> questions that have no answer for it."""
    unparsed: tuple[tuple[str, str], ...]
    """(question, reply) where nothing can be read from the reply, or from its judgment."""
    cut: tuple[str, ...]
    """Questions whose reply was cut off at the most tokens that it may have."""
    unjudged: tuple[str, ...]
    """Questions answered, but needing a judge that has not spoken: in no figure."""
    num_withheld: int
    """Questions whose right answer the makers keep: in no figure."""
    figures: tuple[ScoredFigure, ...]
    """The one that the benchmark is known by first."""
    scored: tuple[Scored, ...] = field(repr=False)
    """Every question of the figures; not written."""

    @property
    def is_part(self) -> bool:
        """Whether fewer or other questions were asked than the benchmark has."""
        return self.num_published not in (None, self.num_questions)

    def to_dict(self) -> dict[str, Any]:
        """Return what scores.json holds: JSON values, the same for the same answers."""
        return {
            "benchmark": self.benchmark,
            "version": self.version,
            "convention": self.convention,
            "counts": {
                "questions": self.num_questions,
                "videos": self.num_videos,
                "answered": self.num_answered,
                "missing": {reason: len(ids) for reason, ids in self.missing.items()},
                "unparsed": len(self.unparsed),
                "cut": len(self.cut),
                "unjudged": len(self.unjudged),
                "gold_withheld": self.num_withheld,
            },
            "figures": [
                {"name": one.name, **one.asked.to_dict(), "over_all": one.all.to_dict()}
                for one in self.figures
            ],
            "missing": {reason: list(ids) for reason, ids in self.missing.items()},
            "unparsed": [{"question_id": name, "reply": text} for name, text in self.unparsed],
            "cut": list(self.cut),
            "unjudged": list(self.unjudged),
        }


def convention_of(benchmark: Benchmark, compat: str | None) -> Convention:
    """Return how replies are read and counted.

    Args:
        benchmark: whose.
        compat: a name in its `conventions`; None or OWN: its own way.

    Raises:
        UserError: it has no such convention.
    """
    if compat is None or compat == OWN:
        return benchmark
    if compat not in benchmark.conventions:
        known = ", ".join([OWN, *sorted(benchmark.conventions)])
        raise UserError(
            f"--compat {compat}: {benchmark.name} has no such convention. Known: {known}."
        )
    return benchmark.conventions[compat]


def score_answers(
    benchmark: Benchmark,
    questions: Sequence[Question],
    answers: Mapping[str, Mapping[str, Any]],
    *,
    compat: str | None = None,
    judgments: Mapping[str, str] | None = None,
) -> Scores:
    """Score a run's answers to one benchmark.

    Args:
        benchmark: that asked.
        questions: of the run, in order.
        answers: question_id -> row of answers.jsonl; a question without one is unanswered.
        compat: convention by which another publisher counts; None: our benchmark's own.
        judgments: question_id -> what a judge said of the reply; None: there was no judge.

    Raises:
        UserError: the benchmark has no such convention.
    """
    rule = convention_of(benchmark, compat)
    tally = _Tally()
    for question in questions:
        row = answers.get(question.question_id)
        tally.add(question, row, benchmark=benchmark, rule=rule, judgments=judgments or {})
    num_missing = sum(map(len, tally.missing.values()))
    return Scores(
        benchmark=benchmark.name,
        version=benchmark.version,
        convention=compat or OWN,
        num_questions=len(questions),
        num_published=benchmark.expected.get("questions"),
        num_videos=len({question.video for question in questions}),
        num_answered=len(questions) - num_missing,
        missing={reason: tuple(tally.missing[reason]) for reason in sorted(tally.missing)},
        unparsed=tuple(tally.unparsed),
        cut=tuple(tally.cut),
        unjudged=tuple(tally.unjudged),
        num_withheld=tally.num_withheld,
        figures=tuple(_figures(rule, tally.scored)),
        scored=tuple(tally.scored),
    )


@dataclass(kw_only=True)
class _Tally:
    """What became of the questions so far; see `Scores`."""

    missing: dict[str, list[str]] = field(default_factory=dict)
    unparsed: list[tuple[str, str]] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    num_withheld: int = 0
    scored: list[Scored] = field(default_factory=list)

    def add(
        self,
        question: Question,
        row: Mapping[str, Any] | None,
        *,
        benchmark: Benchmark,
        rule: Convention,
        judgments: Mapping[str, str],
    ) -> None:
        """Count one question."""
        name, needs_judge = question.question_id, benchmark.needs_judge(question)
        if row is None or row["error"] is not None:
            reason = UNANSWERED if row is None else str(row["error"]["reason"])
            self.missing.setdefault(reason, []).append(name)
            if not question.gold and not needs_judge:
                self.num_withheld += 1
            # Without any judge its like are in no figure, so that it is in none either.
            elif judgments or not needs_judge:
                self.scored.append(
                    Scored(question=question, parsed=None, score=0.0, is_answered=False)
                )
            return
        if row["finish"] == "length":
            self.cut.append(name)
        if needs_judge and name not in judgments:
            self.unjudged.append(name)
            return
        parsed = None if needs_judge else rule.parse(question, row["reply"])
        if parsed is None and name in judgments:
            parsed = benchmark.judged(question, judgments[name])
        if parsed is None:
            self.unparsed.append((name, row["reply"]))
        if not question.gold and not needs_judge:
            self.num_withheld += 1
            return
        score = 0.0 if parsed is None else rule.score(question, parsed)
        self.scored.append(Scored(question=question, parsed=parsed, score=score))


def _figures(rule: Convention, scored: Sequence[Scored]) -> Iterator[ScoredFigure]:
    """Return the figures over what was answered and over all, in the summary's order."""
    answered, figures = [one for one in scored if one.is_answered], rule.summarise(scored)
    is_whole = len(answered) == len(scored)
    asked = {} if is_whole else {figure.name: figure for figure in rule.summarise(answered)}
    for figure in figures:
        over_all = Measured.of(figure)
        over_asked = (
            over_all
            if is_whole
            else Measured.of(asked.get(figure.name, Figure.of(figure.name, ())))
        )
        yield ScoredFigure(name=figure.name, asked=over_asked, all=over_all)


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"
