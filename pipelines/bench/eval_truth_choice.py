"""Answers with letters for eval_truth.py: scored as a run of ours is, or as a publisher does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eval_truth_checks import (
    Answers,
    Check,
    Row,
    UnfitError,
    field_of,
    no_convention,
    number_check,
    parts_of,
    percent_check,
    unknown,
)

from vxp_model.eval.benchmarks.base import Benchmark, Convention, Figure, Question, Scored
from vxp_model.eval.benchmarks.choice import without_letters
from vxp_model.eval.benchmarks.longvideobench import LongVideoBench
from vxp_model.eval.benchmarks.lvbench import KINDS, LvBench
from vxp_model.eval.benchmarks.mlvu import Mlvu, MlvuTest
from vxp_model.eval.benchmarks.video_mme import VideoMme
from vxp_model.eval.benchmarks.vnbench import VnBench

_COMPARE: Final = {
    "right": lambda name, ours, expected: number_check(name, right_of(ours), expected),
    "questions": lambda name, ours, expected: number_check(name, ours.num_questions, expected),
    "published": lambda name, ours, expected: percent_check(name, ours.value, expected),
}
"""What is told of a figure, by the first word of a key such as 'right_by_task'."""


@dataclass(frozen=True, slots=True)
class ChoiceScorer:
    """Scores replies by a benchmark of ours, or by a publisher's convention."""

    benchmark: Benchmark
    fields: Mapping[str, str]
    """Field of a row -> split of the benchmark; those that a row lacks are left out."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of splits in keys such as 'right_by_task'."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Keys of percentages -> our figure's name."""

    def __call__(self, rows: Sequence[Row], compat: str | None) -> Answers:
        """Score rows with `gold`, `reply` (or null) and perhaps `options`."""
        no_convention(compat, *self.benchmark.conventions)
        convention = self.benchmark.conventions[compat] if compat else self.benchmark
        asked = [self._question(row, number) for number, row in enumerate(rows)]
        scored = [_answer(convention, *pair) for pair in zip(asked, rows, strict=True)]
        figures = {figure.name: figure for figure in convention.summarise(scored)}
        unparsed = sum(one.parsed is None for one in scored)

        def checks(key: str, value: Any) -> Iterator[Check]:
            if key == "unparsed":
                yield number_check(key, unparsed, value)
            else:
                yield from self.compared(key, value, figures)

        return Answers(own=[Check(name="unparsed", ours=str(unparsed))], checks=checks)

    def compared(self, key: str, value: Any, figures: Mapping[str, Figure]) -> Iterator[Check]:
        """Yield the comparisons of one key.

        Raises:
            UnfitError: the key says nothing that is known.
        """
        if key in self.names:
            yield percent_check(key, _find(figures, self.names[key]).value, value)
            return
        what, _, split = key.partition("_by_")
        if what not in _COMPARE:
            raise unknown(key)
        if split:
            head = f"accuracy, {self.aliases.get(split, split)} "
            ours = {n.removeprefix(head): f for n, f in figures.items() if n.startswith(head)}
            yield from parts_of(key, value, ours, _COMPARE[what])
        else:
            first = next(iter(figures)) if what == "published" else "accuracy"
            yield _COMPARE[what](key, _find(figures, first), value)

    def _question(self, row: Row, number: int) -> Question:
        name = str(next((row[key] for key in ("question_id", "id") if key in row), number))
        options = tuple(map(str, row.get("options") or ()))
        groups = {split: str(row[key]) for key, split in self.fields.items() if key in row}
        if isinstance(self.benchmark, LvBench):  # its rows are numbered within their type
            groups.setdefault("type", name.rpartition("-")[0])
        return Question(
            question_id=name,
            video=str(row.get("video") or name.rpartition("-")[0]),
            text="",
            options=without_letters(options) if options else (),
            gold=field_of(row, "gold", str),
            groups=groups,
            details={KINDS: row.get("kinds") or []},
        )


@dataclass(frozen=True, slots=True)
class SampleScorer(ChoiceScorer):
    """Counts VNBench's samples of four tries."""

    def compared(self, key: str, value: Any, figures: Mapping[str, Figure]) -> Iterator[Check]:
        """Yield the comparisons of one key; 'right_of_150' says how many samples a task has."""
        what, _, num = key.rpartition("_")
        if what == "right_of" and num.isdecimal():
            end = ", all four"
            ours = {n.removesuffix(end): f for n, f in figures.items() if n.endswith(end)}
            yield from parts_of(key, value, ours, _COMPARE["right"])
            wanted = dict.fromkeys(value, int(num))
            yield from parts_of("samples", wanted, ours, _compare_samples)
        elif key == "right":
            yield number_check(key, right_of(_find(figures, "overall")), value)
        elif key == "right_tries":
            yield number_check(key, right_of(_find(figures, "single try")), value)
        elif key in self.names:
            yield percent_check(key, _find(figures, self.names[key]).value, value)
        else:
            raise unknown(key)


def right_of(figure: Figure) -> float:
    """Return how many right answers, or right samples, a figure counts."""
    return sum(unit.value for part in figure.parts for unit in part)


def _compare_samples(name: str, ours: Figure, expected: Any) -> Check:
    return number_check(name, sum(map(len, ours.parts)), expected)


def _find(figures: Mapping[str, Figure], name: str) -> Figure:
    if name not in figures:
        raise UnfitError(f"we have no figure {name!r}; there are: {'; '.join(figures)}")
    return figures[name]


def _answer(convention: Convention, question: Question, row: Row) -> Scored:
    reply = None if row.get("reply") is None else field_of(row, "reply", str)
    parsed = None if reply is None else convention.parse(question, reply)
    score = convention.score(question, parsed)
    return Scored(question=question, parsed=parsed, score=score, is_answered=reply is not None)


_MLVU: Final = {"question_type": "task", "task_type": "task", "task": "task"}
_M_AVG: Final = {"macro": "M-Avg", "micro": "accuracy"}

CHOICE_SCORERS: Final[Mapping[str, ChoiceScorer]] = {
    "vnbench": SampleScorer(
        VnBench(),
        {"type": "task"},
        names={
            "published": "overall",
            "overall": "overall",
            "ret": "Ret",
            "ord": "Ord",
            "cnt": "Cnt",
            "single_try": "single try",
        },
    ),
    "video-mme": ChoiceScorer(
        VideoMme(),
        {f: f for f in ("duration", "domain", "sub_category")} | {"task_type": "task"},
        {"task_type": "task", "category": "domain"},
    ),
    "lvbench": ChoiceScorer(
        LvBench(), {"type": "type"}, {"kinds": "kind", "task": "kind", "question_type": "kind"}
    ),
    "longvideobench": ChoiceScorer(
        LongVideoBench(),
        {"duration_group": "duration_group", "level": "level", "question_category": "category"},
        {"duration": "duration_group", "task": "category", "question_category": "category"},
    ),
    "mlvu": ChoiceScorer(Mlvu(), _MLVU, {"task_type": "task"}, _M_AVG),
    "mlvu-test": ChoiceScorer(MlvuTest(), _MLVU, {"task_type": "task"}, _M_AVG),
}
"""By what the names of files begin with."""
