"""Video-MME: without subtitles, and with those that are on screen at the frames shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

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
    of_the_read,
    option_lines,
    plain_accuracy,
    without_letters,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.published import (
    lmms_eval_letter,
    video_mme_letter,
    vlmevalkit_letter,
)
from vxp_model.eval.benchmarks.subtitles import on_screen

_GET: Final = "https://huggingface.co/datasets/lmms-lab/Video-MME"
_SPLITS: Final = ("duration", "domain", "sub_category", "task")
_ASKED: Final = (
    "Select the best answer to the following multiple-choice question based on the video{}. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
_FILES: Final = "videomme/test-*.parquet, data/<videoID>.mp4 (or .MP4, .mkv)"
_CHECKED: Final = "published answers of Video-XL-2 (66.37, 66.63), every task and duration"


class VideoMme(ChoiceBenchmark):
    """Benchmark 'video_mme'."""

    name = "video_mme"
    splits = _SPLITS
    about = About(
        title="Video-MME (without subtitles)",
        licence="academic use only, no redistribution",
        source=_GET,
        files=_FILES,
        metric="accuracy over 2,700 questions",
        checked_against=_CHECKED,
        mean_s=1018,
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 2700,
        "videos": 900,
        "duration=short": 900,
        "duration=medium": 900,
        "duration=long": 900,
        "domain=Knowledge": 810,
        "domain=Life Record": 630,
        "domain=Sports Competition": 450,
        "domain=Film & Television": 360,
        "domain=Artistic Performance": 360,
        "domain=Multilingual": 90,
    }
    styles = ("official", "lmms-eval")
    conventions: ClassVar[Mapping[str, Convention]] = {
        "official": PublishedChoice(video_mme_letter, of_the_read(*_SPLITS)),
        "lmms-eval": PublishedChoice(lmms_eval_letter, plain_accuracy(*_SPLITS)),
        "vlmevalkit": PublishedChoice(vlmevalkit_letter, plain_accuracy(*_SPLITS)),
    }

    def questions(self, root: Path) -> Iterator[Question]:
        """Return the questions, three a video."""
        patterns = ["videomme/test-*.parquet", "test-*.parquet", "videomme.json", "videomme.jsonl"]
        for path in find_files(root, patterns, get=_GET):
            for row in read_rows(path, get=_GET):
                yield self._question(row)

    def _question(self, row: Row) -> Question:
        options = without_letters(row.words("options"))
        name = row.text("videoID")
        letters = list("ABCDEFGH"[: len(options)])
        return Question(
            question_id=row.text("question_id"),
            video=f"data/{name}.mp4",
            text=row.text("question"),
            options=options,
            gold=row.one_of("answer", letters),
            groups={
                "duration": row.one_of("duration", ("short", "medium", "long")),
                "domain": row.text("domain"),
                "sub_category": row.text("sub_category"),
                "task": row.text("task_type"),
            },
            subtitles=self._subtitles(name),
        )

    def _subtitles(self, name: str) -> Subtitles | None:
        del name
        return None

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the prompt of Video-MME's makers, or lmms-eval's, which speaks of subtitles."""
        del shown
        is_theirs = style == "lmms-eval"
        end = "\nAnswer with the option's letter from the given choices directly."
        return _prompt(
            question,
            asked=_ASKED.format(" and the subtitles" if is_theirs else ""),
            end=end if is_theirs else "The best answer is:",
        )


class VideoMmeSubtitles(VideoMme):
    """Benchmark 'video_mme_subtitles'."""

    name = "video_mme_subtitles"
    about = About(
        title="Video-MME (with subtitles)",
        licence="academic use only, no redistribution",
        source=_GET,
        files=f"{_FILES}, subtitle/<videoID>.srt (744 of 900)",
        metric="accuracy over 2,700 questions",
        checked_against=f"{_CHECKED}, all without subtitles; the choice of lines by hand",
        mean_s=1018,
    )

    def _subtitles(self, name: str) -> Subtitles | None:
        return Subtitles(path=f"subtitle/{name}.srt")

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the prompt with the lines that are on screen at a frame, in time order.

        Of a video without subtitles the makers' prompt is that without any; lmms-eval's says that
        there are none.
        """
        lines = [line.text for line in on_screen(shown.subtitles or (), shown.time_s)]
        told = "\n".join(lines)
        if style == "lmms-eval":
            told = "No subtitles available" if shown.subtitles is None else told
            head = "This video's subtitles are listed below: "
        elif not lines:
            return super().prompt(question, shown, style)
        else:
            head = "This video's subtitles are listed below:"
        asked = f"{head}\n{told}\n{_ASKED.format(' and the subtitles')}"
        return _prompt(question, asked=asked, end="The best answer is:")


def _prompt(question: Question, *, asked: str, end: str) -> Prompt:
    lines = option_lines(question.options, "{}. {}")
    text = "\n".join([asked, question.text, *lines, end])
    return Prompt(text=text, choices=tuple("ABCDEFGH"[: len(question.options)]))
