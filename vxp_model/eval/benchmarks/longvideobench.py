"""LongVideoBench: without subtitles, and with them between the frames; val and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    About,
    Convention,
    Prompt,
    Question,
    Shown,
    Subtitles,
)
from vxp_model.eval.benchmarks.choice import (
    ChoiceBenchmark,
    PublishedChoice,
    option_lines,
    plain_accuracy,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.letters import letters_for
from vxp_model.eval.benchmarks.published import longvideobench_letter, vlmevalkit_letter
from vxp_model.eval.benchmarks.subtitles import between_frames

_GET: Final = "https://huggingface.co/datasets/longvideobench/LongVideoBench (ask for access)"
_SPLITS: Final = ("duration_group", "level", "category")
_ABSENT: Final = "N/A"
_DIRECTLY: Final = "Answer with the option's letter from the given choices directly."
_CHECKED: Final = "invented rows scored by hand: no published answers are at hand"
_THEIRS: Final = PublishedChoice(longvideobench_letter, plain_accuracy(*_SPLITS))


class LongVideoBench(ChoiceBenchmark):
    """Benchmark 'longvideobench': the validation set, whose answers are known."""

    name = "longvideobench"
    most_options = 5
    splits = _SPLITS
    patterns: ClassVar[tuple[str, ...]] = ("lvb_val.json", "validation-*.parquet")
    has_subtitles: ClassVar[bool] = False
    has_golds: ClassVar[bool] = True
    about = About(
        title="LongVideoBench (val, without subtitles)",
        licence="CC-BY-NC-SA 4.0",
        source=_GET,
        files="lvb_val.json or validation-*.parquet, videos/<video_path>",
        metric="accuracy over 1,337 questions; their texts quote subtitles, which are not shown",
        checked_against=_CHECKED,
        mean_s=473,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 1337,
        "videos": 753,
        "duration_group=15": 189,
        "duration_group=60": 172,
        "duration_group=600": 412,
        "duration_group=3600": 564,
        "level=L1": 625,
        "level=L2": 712,
    }
    styles = ("official", "lmms-eval")
    conventions: ClassVar[Mapping[str, Convention]] = {
        "official": _THEIRS,
        "lmms-eval": _THEIRS,
        "vlmevalkit": PublishedChoice(vlmevalkit_letter, plain_accuracy(*_SPLITS)),
    }

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions in the order of the file."""
        for path in find_files(root, self.patterns, get=_GET):
            for row in read_rows(path, get=_GET):
                yield self._question(row)

    def _question(self, row: Row) -> Question:
        options = _options(row)
        subtitles = None
        if self.has_subtitles and "subtitle_path" in row:
            offset_s = row.number_of("starting_timestamp_for_subtitles")
            subtitles = Subtitles(path=f"subtitles/{row.file('subtitle_path')}", offset_s=offset_s)
        details: dict[str, Any] = {"duration_s": row.number_of("duration")}
        if "position" in row:  # numbers of the frames that the question is about
            details["position"] = row.values["position"]
        return Question(
            question_id=row.text("id"),
            video=f"videos/{row.file('video_path')}",
            text=row.text("question"),
            options=options,
            gold=self._gold(row, len(options)),
            groups={
                "duration_group": str(row.integer("duration_group")),
                "level": row.text("level").partition("-")[0],
                "category": row.text("question_category"),
            },
            subtitles=subtitles,
            details=details,
        )

    def _gold(self, row: Row, num_options: int) -> str:
        place = row.integer("correct_choice") if "correct_choice" in row else -1
        if place == -1 and not self.has_golds:
            return ""  # only their server knows
        if not 0 <= place < num_options:
            raise row.wrong("correct_choice", place, f"a place among {num_options} options")
        return letters_for(num_options)[place]

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return question, options, and the wish for a letter alone; subtitles between frames."""
        is_theirs = style == "lmms-eval"
        asked = question.text if is_theirs else f"Question: {question.text}"
        lines = [asked, *option_lines(question.options, "{}. {}"), _DIRECTLY]
        told = shown.subtitles if self.has_subtitles else None
        return Prompt(
            text="\n".join(lines) + ("\n" if is_theirs else ""),
            max_new_tokens=32,
            timed_texts=between_frames(told or (), shown.time_s),
            choices=tuple(self.letters(question)),
        )


class LongVideoBenchSubtitles(LongVideoBench):
    """Benchmark 'longvideobench_subtitles'."""

    name = "longvideobench_subtitles"
    has_subtitles = True
    about = About(
        title="LongVideoBench (val, subtitles between frames)",
        licence="CC-BY-NC-SA 4.0",
        source=_GET,
        files="lvb_val.json or validation-*.parquet, videos/<video_path>, "
        "subtitles/<subtitle_path>",
        metric="accuracy over 1,337 questions",
        checked_against=_CHECKED,
        mean_s=473,
    )


class LongVideoBenchTest(LongVideoBench):
    """Benchmark 'longvideobench_test': for a submission, its answers are not known."""

    name = "longvideobench_test"
    patterns = ("lvb_test_wo_gt.json", "test-*.parquet")
    has_golds = False
    about = About(
        title="LongVideoBench (test, without subtitles)",
        licence="CC-BY-NC-SA 4.0",
        source=_GET,
        files="lvb_test_wo_gt.json or test-*.parquet, videos/<video_path>",
        metric="none here: answers are submitted to its makers",
        checked_against="nothing: its answers are hidden",
        mean_s=473,
    )
    expected: ClassVar[Mapping[str, int]] = {"questions": 5341}


class LongVideoBenchTestSubtitles(LongVideoBenchTest):
    """Benchmark 'longvideobench_test_subtitles'."""

    name = "longvideobench_test_subtitles"
    has_subtitles = True
    about = About(
        title="LongVideoBench (test, subtitles between frames)",
        licence="CC-BY-NC-SA 4.0",
        source=_GET,
        files="lvb_test_wo_gt.json or test-*.parquet, videos/<video_path>, "
        "subtitles/<subtitle_path>",
        metric="none here: answers are submitted to its makers",
        checked_against="nothing: its answers are hidden",
        mean_s=473,
    )


def _options(row: Row) -> tuple[str, ...]:
    """Return a row's options: of the Parquet form, those before the first that is absent."""
    if "candidates" in row:
        return row.words("candidates")
    options: list[str] = []
    for place in range(5):
        key = f"option{place}"
        text = row.word(key) if key in row else _ABSENT
        if text == _ABSENT:
            break
        options.append(text)
    if len(options) < 2:
        raise row.wrong("option0", options, "two options or more (or 'candidates')")
    return tuple(options)
