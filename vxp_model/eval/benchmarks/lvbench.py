"""LVBench: hour-long videos; a question may be of several kinds, and counts in each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    About,
    Convention,
    Figure,
    Prompt,
    Question,
    Scored,
    Shown,
    accuracy_figures,
    units_of,
)
from vxp_model.eval.benchmarks.choice import (
    ChoiceBenchmark,
    PublishedChoice,
    gold_letter,
    option_lines,
    split_options,
    with_gold,
    without_letters,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.published import lmms_eval_letter, lvbench_letter

_GET: Final = "https://huggingface.co/datasets/THUDM/LVBench"
_DIRECTLY: Final = "Answer with the option's letter from the given choices directly."
_SPAN: Final = re.compile(r"((?:\d+:)?\d+:\d+)\s*-\s*((?:\d+:)?\d+:\d+)")
KINDS: Final = "kinds"
"""In `Question.details`: what a question is about, one or more."""


def kind_figures(scored: Sequence[Scored]) -> list[Figure]:
    """Return the accuracy over all questions, by each kind that they have, and by type."""
    figures = accuracy_figures(scored, ("type",))
    kinds = sorted({kind for one in scored for kind in one.question.details[KINDS]})
    for kind in kinds:
        own = [one for one in scored if kind in one.question.details[KINDS]]
        figures.append(Figure.of(f"accuracy, kind {kind}", units_of(own)))
    return figures


class LvBench(ChoiceBenchmark):
    """Benchmark 'lvbench'."""

    name = "lvbench"
    splits = ("type",)
    about = About(
        title="LVBench (THUDM)",
        licence="CC-BY-NC-SA 4.0, academic use only",
        source=_GET,
        files="video_info.meta.jsonl (or Video-XL-2's arrays of rows, a file a type), "
        "videos/<key>.mp4",
        metric="accuracy over 1,549 questions",
        checked_against="published answers of Video-XL-2 (46.61; 738 and 722 right)",
        mean_s=4101,
    )
    expected: ClassVar[Mapping[str, int]] = {"questions": 1549, "videos": 103}
    styles = ("official", "lmms-eval", "video-xl")
    conventions: ClassVar[Mapping[str, Convention]] = {
        "official": PublishedChoice(lvbench_letter, kind_figures),
        "lmms-eval": PublishedChoice(lmms_eval_letter, kind_figures),
    }

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions video by video, or type by type."""
        patterns = ["video_info.meta.jsonl", "data/video_info.meta.jsonl", "*.meta.jsonl"]
        patterns += ["lvbench_*.json", "json/*.json", "*.json"]
        numbers: dict[str, int] = {}
        for path in find_files(root, patterns, get=_GET):
            for row in read_rows(path, get=_GET):
                if "qa" in row:
                    yield from _of_video(row)
                    continue
                kind = row.text("type")
                numbers[kind] = numbers.get(kind, -1) + 1
                yield _of_row(row, f"{kind}-{numbers[kind]}")

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the question with its options as in its makers' file, or others' prompts.

        The makers publish no words to go with it; those that ask for a letter are Video-XL-2's.
        """
        del shown
        lines = option_lines(question.options, "({}) {}")
        end = "Answer the question with the option letter" if style == "lmms-eval" else _DIRECTLY
        if style == "video-xl":  # its options carry two letters
            lines = option_lines(lines, "{}. {}")
        text = "\n".join([question.text, *lines, end])
        return Prompt(text=text, choices=tuple(self.letters(question)))

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the accuracy over all, by type, and by kind; kinds overlap."""
        return kind_figures(with_gold(scored))


def _of_video(row: Row) -> Iterator[Question]:
    """Yield the questions of one line of the makers' file."""
    for values in row.items("qa", least=1):
        if not isinstance(values, dict):
            raise row.wrong("qa", values, "objects")
        one = Row(values, row.path, row.number, row.get)
        text, options = split_options(one.text("question"))
        if len(options) < 2:
            raise one.wrong("question", one.text("question"), "options below it, a line each")
        yield _question(
            one,
            question_id=one.word("uid"),
            name=row.text("key"),
            kind=row.text("type"),
            text=text,
            options=options,
            gold=one.one_of("answer", list("ABCDEFGH"[: len(options)])),
        )


def _of_row(row: Row, question_id: str) -> Question:
    """Return the question of a row as Video-XL-2 has them, whose options carry letters."""
    options = row.words("candidates")
    gold, details = gold_letter(options, row.text("answer"))
    return _question(
        row,
        question_id=question_id,
        name=row.text("video"),
        kind=row.text("type"),
        text=row.text("question"),
        options=without_letters(options),
        gold=gold,
        details=details,
    )


def _question(
    row: Row,
    *,
    question_id: str,
    name: str,
    kind: str,
    text: str,
    options: tuple[str, ...],
    gold: str,
    details: Mapping[str, Any] | None = None,
) -> Question:
    name = name.removesuffix(".mp4")
    more: dict[str, Any] = {
        **(details or {}),
        KINDS: list(row.words("question_type", least=1)),
    }
    if isinstance(told := row.values.get("time_reference"), str):
        more["moments_s"] = _moments(told)
    return Question(
        question_id=question_id,
        video=f"videos/{name}.mp4",
        text=text,
        options=options,
        gold=gold,
        groups={"type": kind},
        details=more,
    )


def _moments(text: str) -> list[list[float]]:
    """Return the spans that a question is about, [start, end] in seconds."""
    return [[_seconds(start), _seconds(end)] for start, end in _SPAN.findall(text)]


def _seconds(stamp: str) -> float:
    seconds = 0
    for part in stamp.split(":"):
        seconds = 60 * seconds + int(part)
    return float(seconds)
