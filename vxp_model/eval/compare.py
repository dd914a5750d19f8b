"""Whether two runs differ by more than chance, on the questions that both have answered.

The same questions, the same frames: what is left is the models, or what a setting does to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import FramePlan
from vxp_model.eval.benchmarks.base import Benchmark, Figure, Question, Scored, by_group, units_of
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.score_tables import interval_text, places_of, value_text
from vxp_model.eval.scores import OWN, convention_of
from vxp_model.eval.statistics import Interval, difference, is_plain_share, mcnemar_exact
from vxp_model.eval.store import BenchmarkFolder
from vxp_model.eval.stored import chosen_benchmark, read_scores
from vxp_model.eval.text_tables import WIDTH, shortened, table

QUESTIONS: Final = "mean over questions"
"""Name of the difference over all questions, each counting once."""
_SAME: Final = 1e-12
"""Scores that differ by less are the same."""
_MOST_LISTED: Final = 20
"""Questions that are printed of those better in one run."""
_LEAST_P: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of both runs."""

    name: str
    num_questions: int
    a: float
    b: float
    interval: Interval
    """Of b - a."""
    is_share: bool
    p_value: float | None = None
    """McNemar's, exact; None where answers are more than right or wrong, or the figure is no mean
    of questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """A question of whose answers one is worth more."""

    question: Question
    reply_a: str
    reply_b: str
    a: Scored
    b: Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs on the same questions of one benchmark."""

    benchmark: str
    convention: str
    run_a: Path
    run_b: Path
    num_questions: int
    """Answered by both."""
    num_videos: int
    num_left_out: int
    """In one run alone, or without an answer in one."""
    num_other_plans: int
    """Videos of which both were shown other frames."""
    figures: tuple[Difference, ...]
    """Of the benchmark's summary; splits are apart."""
    overall: Difference
    """Over all questions, whatever the summary's formula."""
    by_split: Mapping[str, tuple[Difference, ...]]
    """Split -> the same over the questions of each of its parts."""
    differing: tuple[Differing, ...]
    """In the order of the questions."""

    @property
    def told(self) -> list[Difference]:
        """Differences of the whole: the summary's, and that over all questions if it is another."""
        has_overall = any(one.p_value is not None for one in self.figures)
        return [*self.figures, *[self.overall][has_overall:]]

    @property
    def better_in_a(self) -> list[Differing]:
        """Questions whose answer in `run_a` is worth more."""
        return [one for one in self.differing if one.a.score > one.b.score]

    @property
    def better_in_b(self) -> list[Differing]:
        """Questions whose answer in `run_b` is worth more."""
        return [one for one in self.differing if one.b.score > one.a.score]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One run's answers to one benchmark."""

    run: Path
    questions: Mapping[str, Question]
    answers: Mapping[str, Mapping[str, Any]]
    plans: Mapping[str, FramePlan]
    scored: Mapping[str, Scored]
    """Those answered."""


def compare(
    run_a: Path,
    run_b: Path,
    *,
    benchmark: str | None = None,
    across_plans: bool = False,
    compat: str | None = None,
) -> list[Comparison]:
    """Compare two runs, benchmark by benchmark.

    Args:
        run_a: run directory.
        run_b: another, whose gain over `run_a` is told.
        benchmark: this one alone; None: all that both runs have.
        across_plans: go on where the models were shown other frames of a video.
        compat: see `score_answers`.

    Raises:
        UserError: there is no such run, they share no benchmark or no answered question, ask
            different questions under one name, or were shown other frames.
    """
    names_a, names_b = chosen_benchmark(run_a, None), chosen_benchmark(run_b, None)
    names = [name for name in names_a if name in names_b]
    if benchmark is not None:
        names = [name for name in names if name == benchmark]
    if not names:
        what = "no benchmark" if benchmark is None else f"no {benchmark!r}"
        raise UserError(
            f"{run_a} and {run_b} have {what} in common: the first has {', '.join(names_a)}, the "
            f"second {', '.join(names_b)}. Compare runs over the same questions."
        )
    return [
        _compare(load_benchmark(name), run_a, run_b, across_plans=across_plans, compat=compat)
        for name in names
    ]


def _compare(
    benchmark: Benchmark, run_a: Path, run_b: Path, *, across_plans: bool, compat: str | None
) -> Comparison:
    a, b = (_side(benchmark, run, compat) for run in (run_a, run_b))
    shared = [name for name in a.scored if name in b.scored]
    if not shared:
        raise UserError(
            f"{run_a} and {run_b}: no question of {benchmark.name} is answered and scored in both."
        )
    _check_same_questions(benchmark, a, b, shared)
    videos = {a.questions[name].video for name in shared}
    other = _other_plans(a, b, videos)
    if other and not across_plans:
        raise _refused(a, b, other, len(videos))
    scored_a, scored_b = ([side.scored[name] for name in shared] for side in (a, b))
    overall = _difference(QUESTIONS, scored_a, scored_b)
    splits = sorted({split for one in scored_a for split in one.question.groups})
    return Comparison(
        benchmark=benchmark.name,
        convention=compat or OWN,
        run_a=run_a,
        run_b=run_b,
        num_questions=len(shared),
        num_videos=len(videos),
        num_left_out=len(a.questions.keys() | b.questions.keys()) - len(shared),
        num_other_plans=len(other),
        figures=tuple(_figures(benchmark, scored_a, scored_b, compat, overall)),
        overall=overall,
        by_split={split: tuple(_by_part(split, scored_a, scored_b)) for split in splits},
        differing=tuple(
            Differing(
                question=one.question,
                reply_a=a.answers[name]["reply"],
                reply_b=b.answers[name]["reply"],
                a=one,
                b=b.scored[name],
            )
            for name, one in zip(shared, scored_a, strict=True)
            if abs(one.score - b.scored[name].score) > _SAME
        ),
    )


def _side(benchmark: Benchmark, run: Path, compat: str | None) -> _Side:
    folder = BenchmarkFolder(run, benchmark.name)
    questions, answers = folder.questions(), folder.answers()
    scores = read_scores(folder, benchmark, compat=compat)
    return _Side(
        run=run,
        questions={one.question_id: one for one in questions},
        answers=answers,
        plans=folder.plans(),
        scored={one.question.question_id: one for one in scores.scored if one.is_answered},
    )


def _check_same_questions(benchmark: Benchmark, a: _Side, b: _Side, shared: Sequence[str]) -> None:
    def told(question: Question) -> tuple[object, ...]:
        return question.video, question.text, question.options, question.gold

    changed = [name for name in shared if told(a.questions[name]) != told(b.questions[name])]
    if changed:
        raise UserError(
            f"{a.run} and {b.run} ask different questions of {benchmark.name} under one name: "
            f"{len(changed)}, for example {changed[0]!r}. Answer both from the same files."
        )


def _other_plans(a: _Side, b: _Side, videos: set[str]) -> list[str]:
    """Return the videos of which the runs were shown other frames, or it is not known which."""

    def shown(side: _Side, video: str) -> tuple[int, ...] | None:
        return side.plans[video].frame_index if video in side.plans else None

    return [
        video for video in sorted(videos) if (shown(a, video) or ()) != (shown(b, video) or None)
    ]


def _refused(a: _Side, b: _Side, other: Sequence[str], num_videos: int) -> UserError:
    numbers = [
        f"{len(side.plans[other[0]].frame_index)} frames" if other[0] in side.plans else "not known"
        for side in (a, b)
    ]
    return UserError(
        f"{a.run} and {b.run} were not shown the same frames of {len(other):,} of {num_videos:,} "
        f"videos, as far as is known: of {other[0]!r} {numbers[0]} and {numbers[1]}. What differs "
        "may be the frames' doing. Answer with the same frames, or compare all the same: "
        "--across-plans."
    )


def _figures(
    benchmark: Benchmark,
    scored_a: Sequence[Scored],
    scored_b: Sequence[Scored],
    compat: str | None,
    overall: Difference,
) -> Iterator[Difference]:
    """Return the summary's figures that are not of a part of a split."""
    rule = convention_of(benchmark, compat)
    after = {figure.name: figure for figure in rule.summarise(scored_b)}
    all_before = rule.summarise(scored_a)
    places = places_of([one.name for one in all_before], scored_a)
    for before in all_before:
        if before.name in after and places[before.name] is None:
            is_overall = is_plain_share(before) and before.num_questions == len(scored_a)
            yield _figure(before, after[before.name], overall.p_value if is_overall else None)


def _figure(before: Figure, after: Figure, p_value: float | None = None) -> Difference:
    return Difference(
        name=before.name,
        num_questions=before.num_questions,
        a=before.value,
        b=after.value,
        interval=difference(before, after),
        is_share=before.is_share and after.is_share,
        p_value=p_value,
    )


def _by_part(
    split: str, scored_a: Sequence[Scored], scored_b: Sequence[Scored]
) -> Iterator[Difference]:
    groups_b = by_group(scored_b, split)
    for part, own in by_group(scored_a, split).items():
        yield _difference(part, own, groups_b[part])


def _difference(name: str, scored_a: Sequence[Scored], scored_b: Sequence[Scored]) -> Difference:
    """Return the difference of means over questions, which come in the same order."""
    p_value = None
    pairs = [(one.score, other.score) for one, other in zip(scored_a, scored_b, strict=True)]
    if all(score in (0.0, 1.0) for pair in pairs for score in pair):
        p_value = mcnemar_exact(pairs.count((1.0, 0.0)), pairs.count((0.0, 1.0)))
    before, after = (Figure.of(name, units_of(scored)) for scored in (scored_a, scored_b))
    return _figure(before, after, p_value)


def describe(comparison: Comparison) -> str:
    """Return a comparison as text of at most 100 columns, without a line end at the end."""
    lines = [*_heading(comparison), ""]
    lines += table(_rows("figure", comparison.told))
    for split, parts in comparison.by_split.items():
        lines += ["", *table(_rows(f"by {split}", parts))]
    lines += ["", "B - A: 95 % of a paired bootstrap over videos; p: McNemar's exact test."]
    for which, found in (("A", comparison.better_in_a), ("B", comparison.better_in_b)):
        if found:
            lines += ["", *_listed(which, found)]
    return "\n".join(lines)


def p_text(p_value: float | None) -> str:
    """Return a p-value as people read it; a dash where there is none."""
    if p_value is None:
        return "-"
    return f"< {_LEAST_P}" if p_value < _LEAST_P else f"{p_value:.4f}"


def gap_text(one: Difference) -> str:
    """Return b - a, with its sign; of shares in percentage points."""
    gap = one.b - one.a
    return f"{gap * 100:+.2f}" if one.is_share else f"{gap:+.3f}"


def _heading(comparison: Comparison) -> Iterator[str]:
    yield f"{comparison.benchmark}, counted by convention {comparison.convention!r}"
    yield f"A: {comparison.run_a}"
    yield f"B: {comparison.run_b}"
    left = f"; {comparison.num_left_out:,} left out" if comparison.num_left_out else ""
    yield (
        f"{comparison.num_questions:,} questions about {comparison.num_videos:,} videos, answered "
        f"in both{left}"
    )
    if comparison.num_other_plans:
        yield (
            f"of {comparison.num_other_plans:,} videos both were shown other frames: what differs "
            "may be their doing"
        )


def _rows(heading: str, differences: Sequence[Difference]) -> list[list[str]]:
    rows = [[heading, "questions", "A", "B", "B - A", "95 % interval", "p"]]
    for one in differences:
        a, b = (value_text(value, is_share=one.is_share) for value in (one.a, one.b))
        inside = interval_text(one.interval, is_share=one.is_share)
        cells = [f"{one.num_questions:,}", a, b, gap_text(one), inside, p_text(one.p_value)]
        rows.append([one.name, *cells])
    return rows


def _listed(which: str, found: Sequence[Differing]) -> Iterator[str]:
    yield f"Better in {which}: {len(found):,}"
    for one in found[:_MOST_LISTED]:
        parsed_a, parsed_b = (side.parsed or "nothing" for side in (one.a, one.b))
        said = f"A says {parsed_a}, B says {parsed_b}, right is {one.question.gold}"
        yield shortened(f"  {one.question.question_id}: {said}", WIDTH)
    if len(found) > _MOST_LISTED:
        yield f"  and {len(found) - _MOST_LISTED:,} more"
