"""VNBench: four orders of the same options; a sample is right when all four tries are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    About,
    Convention,
    Figure,
    Prompt,
    Question,
    Scored,
    Shown,
    Unit,
    by_group,
    units_of,
)
from vxp_model.eval.benchmarks.choice import (
    ALSO_RIGHT,
    ChoiceBenchmark,
    PublishedChoice,
    option_lines,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.mlvu import SYSTEM, bracketed
from vxp_model.eval.benchmarks.published import vnbench_letter

_GET: Final = "https://github.com/joez17/VideoNIAH"
_TASKS: Final = (
    "ret_edit1",
    "ret_insert1",
    "ret_insert2",
    "ord_edit1",
    "ord_insert1",
    "ord_insert2",
    "cnt_edit1",
    "cnt_edit2",
    "cnt_insert1",
)
"""As the field `type` says. File names have ret_insert1 and ret_insert2 the other way round, and so
have the columns of the paper, whose I-1 is the easier one."""
_FAMILIES: Final = {"ret": "Ret", "ord": "Ord", "cnt": "Cnt"}
NUM_TRIES: Final = 4


def sample_figures(scored: Sequence[Scored]) -> list[Figure]:
    """Return the overall mean of the tasks, the three kinds, the tasks; then single tries.

    A sample that lacks a try is wrong.
    """
    samples = {task: _samples(own) for task, own in by_group(scored, "task").items()}
    figures = [Figure(name="overall", parts=tuple(samples.values()))]
    for prefix, kind in _FAMILIES.items():
        parts = tuple(own for task, own in samples.items() if task.startswith(prefix))
        if parts:
            figures.append(Figure(name=kind, parts=parts))
    figures += [Figure.of(f"{task}, all four", own) for task, own in samples.items()]
    figures.append(Figure.of("single try", units_of(scored)))
    for task, own in by_group(scored, "task").items():
        figures.append(Figure.of(f"{task}, single try", units_of(own)))
    if lacking := incomplete_samples(scored):
        units = [Unit(value=1.0, video=video) for _, video in lacking]
        figures.append(Figure.of("samples that lack a try (wrong)", units))
    return figures


def incomplete_samples(scored: Sequence[Scored]) -> list[tuple[str, str]]:
    """Return (task, video) of the samples of which not all four tries are there."""
    return sorted(key for key, own in _by_sample(scored).items() if len(own) < NUM_TRIES)


def official_figures(scored: Sequence[Scored]) -> list[Figure]:
    """Return the figures of its makers' script, for which a try without a reply is not there."""
    return sample_figures([one for one in scored if one.is_answered])


class VnBench(ChoiceBenchmark):
    """Benchmark 'vnbench'."""

    name = "vnbench"
    splits = ("task",)
    about = About(
        title="VNBench (VideoNIAH), four orders",
        licence="academic use only; made of ActivityNet, MSR-VTT, NExT-QA and VidOR videos",
        source=_GET,
        files="VNBench-main-4try.json, the videos at the paths in it",
        metric="overall: mean of 9 tasks; a sample is right when all of its 4 tries are",
        checked_against="published answers of LLaVA-OneVision-7B (51.78), every task",
        mean_s=54,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 5400,
        "videos": 1350,
        **{f"task={task}": 600 for task in _TASKS},
    }
    styles = ("official", "video-xl")
    conventions: ClassVar[Mapping[str, Convention]] = {
        "official": PublishedChoice(vnbench_letter, official_figures)
    }

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the tries, in the order of the file."""
        patterns = ["VNBench-main-4try.json", "*/VNBench-main-4try.json"]
        for path in find_files(root, patterns, get=_GET):
            for row in read_rows(path, get=_GET):
                yield _question(row)

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the prompt of its makers, or Video-XL's."""
        del shown
        choices = tuple(self.letters(question))
        if style == "video-xl":
            return Prompt(text=bracketed(question), system=SYSTEM, choices=choices)
        end = "Answer with the option's letter from the given choices directly."
        lines = option_lines(question.options, "{}. {}")
        return Prompt(text="\n".join([question.text, *lines, end]), choices=choices)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the overall figure first; see `sample_figures`."""
        return sample_figures(scored)


def _samples(scored: Sequence[Scored]) -> tuple[Unit, ...]:
    return tuple(
        Unit(
            value=float(len(own) >= NUM_TRIES and all(one.score == 1 for one in own)),
            video=own[0].question.video,
            num_questions=len(own),
        )
        for _, own in sorted(_by_sample(scored).items())
    )


def _by_sample(scored: Sequence[Scored]) -> dict[tuple[str, str], list[Scored]]:
    samples: dict[tuple[str, str], list[Scored]] = {}
    for one in scored:
        key = (one.question.groups["task"], PurePosixPath(one.question.video).name)
        samples.setdefault(key, []).append(one)
    return samples


def _question(row: Row) -> Question:
    path = row.file("video")
    options = row.words("options")
    gold, details = _gold(row, options)
    return Question(
        question_id=f"{PurePosixPath(path).stem}_{row.integer('try')}",
        video=path,
        text=row.text("question"),
        options=options,
        gold=gold,
        groups={"task": row.one_of("type", _TASKS)},
        details={**details, "needle_time_s": row.values.get("needle_time")},
    )


def _gold(row: Row, options: Sequence[str]) -> tuple[str, dict[str, list[str]]]:
    """Return the gold letter, checked against the gold text: numbers and texts are mixed there."""
    letters = list("ABCDEFGH"[: len(options)])
    gold = row.one_of("gt_option", letters)
    said = [a for a, option in zip(letters, options, strict=True) if option == row.word("gt")]
    if gold not in said:
        raise row.wrong("gt_option", gold, f"the letter of gt, {row.word('gt')!r}")
    others = [letter for letter in said if letter != gold]
    return gold, {ALSO_RIGHT: others} if others else {}
