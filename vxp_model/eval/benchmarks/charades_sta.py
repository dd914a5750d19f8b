"""Charades-STA: when in a video of indoor activities does this happen?

Read is the text file of its makers (or the same as JSON); not the parquet that lmms-eval reads,
whose times are rounded to float16: of predictions on a grid of 0.1 s, one in 200 changes sides at
R1@0.5. Right moments may end a little after the video does; they are left as published.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import (
    About,
    Benchmark,
    Convention,
    Figure,
    Prompt,
    Question,
    Scored,
    Shown,
)
from vxp_model.eval.benchmarks.files import find_files, read_rows, read_text
from vxp_model.eval.benchmarks.intervals import (
    Interval,
    interval_figures,
    interval_iou,
    interval_of,
    interval_text,
    read_interval,
)

TEXT_NAME: Final = "charades_sta_test.txt"
JSON_NAMES: Final = ("charades_sta_test.json", "charades_sta_test.jsonl", "charades_sta.json")
VIDEO_FOLDER: Final = "Charades_v1_480"
_GET: Final = "https://github.com/jiyanggao/TALL"

_LINE = re.compile(r"(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s*##\s*(.*\S)")

PROMPT: Final = (
    "Please find the visual event described by a sentence in the video, determining its starting "
    "and ending times. The format should be: 'The event happens in the start time - end time'. "
    "For example, The event 'person turn a light on' happens in the 24.3 - 30.4 seonds. Now I will "
    "give you the textual sentence: {caption}. Please return its start time and end time."
)
"""Of lmms-eval (tasks/charades_sta/charades.yaml, Apache-2.0), with its spelling: what models say
depends on it. A full stop follows the caption's own, as there."""


class _Moments(Convention):
    """How moments are scored, however they are read."""

    def score(self, question: Question, parsed: str | None) -> float:
        """Return the IoU with the right moment."""
        found, right = interval_of(parsed), interval_of(question.gold)
        return 0.0 if found is None or right is None else interval_iou(found, right)

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return mIoU and R1@0.3, 0.5, 0.7 over all; a reply without a moment counts as IoU 0."""
        return interval_figures(scored)


class LmmsEval(_Moments):
    """As lmms-eval reads replies (tasks/charades_sta/eval_tvg.py): every 'to' becomes '-'."""

    def parse(self, question: Question, reply: str) -> str | None:
        """Return the first range of numbers, else of the first two sentences that name a time."""
        del question
        text = reply.lower().replace("a specific example is : 20.8 - 30.0 seconds", "")
        text = text.replace("to", "-")
        try:
            found = _lmms_eval_interval(text)
        except ValueError:  # such as '3..5', which its pattern takes for a number
            return None
        if found is None or not math.isfinite(sum(found)):
            return None
        return interval_text((min(found), max(found)))


def _lmms_eval_interval(text: str) -> Interval | None:
    if found := re.search(r"(\d+(?:\.+\d*)?)\s*-\s*(\d+(?:\.+\d*)?)", text):
        return float(found[1]), float(found[2])
    words = ("start", "end", "happen")  # of which all its keywords have one
    parts = [part for part in re.split(r"[!?\n]", text) if any(word in part for word in words)]
    plain = [re.search(r"\b(\d+\.\d+\b|\b\d+)\b", part) for part in parts]
    times = [float(one[1]) for one in plain if one]
    # What theirs does then with 'h:mm:ss' is never reached with two times, and fails with one.
    return (times[0], times[1]) if len(times) >= 2 else None


class CharadesSta(_Moments, Benchmark):
    """3,720 sentences, each with the moment of a video that it describes."""

    name = "charades_sta"
    about: ClassVar[About] = About(
        title="Charades-STA",
        licence="Charades: non-commercial use",
        source=f"{_GET} (annotations), https://prior.allenai.org/projects/charades (videos)",
        files=f"{TEXT_NAME}, or {JSON_NAMES[0]} with video, caption, timestamp; "
        f"{VIDEO_FOLDER}/<id>.mp4",
        metric="mIoU, with R1@0.3, R1@0.5, R1@0.7",
        checked_against="replies scored by hand; the interval scorer against the published "
        "R1@0.5 to R1@0.95 of Moment-DETR on QVHighlights",
        mean_s=30,
    )
    expected: ClassVar[Mapping[str, int]] = {"questions": 3720, "videos": 1334}
    styles: ClassVar[tuple[str, ...]] = ("lmms-eval",)
    conventions: ClassVar[Mapping[str, Convention]] = {"lmms-eval": LmmsEval()}

    def questions(self, root: Path) -> Iterator[Question]:
        """Return a question a sentence; see the base class."""
        counts: Counter[str] = Counter()
        for video, start_s, end_s, caption, where in _rows(root):
            if end_s < start_s:
                raise UserError(
                    f"{where}: the moment ends at {end_s:g} s, before it begins at {start_s:g} s. "
                    "Some lines of the train split do; take the test split."
                )
            counts[video] += 1
            yield Question(
                question_id=f"{video}/{counts[video]}",
                video=f"{VIDEO_FOLDER}/{video}.mp4",
                text=caption,
                gold=interval_text((start_s, end_s)),
            )

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the sentence in lmms-eval's words; the benchmark itself has none."""
        del shown, style
        return Prompt(text=PROMPT.format(caption=question.text), max_new_tokens=50)

    def parse(self, question: Question, reply: str) -> str | None:
        """Return the moment that `read_interval` reads, as JSON [start, end]."""
        del question
        found = read_interval(reply)
        return None if found is None else interval_text(found)


def _rows(root: Path) -> Iterator[tuple[str, float, float, str, str]]:
    """Return video, start, end, caption, and where it stands, of every sentence."""
    if not any((root / name).is_file() for name in (TEXT_NAME, *JSON_NAMES)) and any(
        root.rglob("*.parquet")
    ):
        raise UserError(
            f"{root}: of Charades-STA there is a Parquet file alone, whose times are rounded to "
            f"float16. Get {TEXT_NAME} from {_GET}."
        )
    (path,) = find_files(root, (TEXT_NAME, *JSON_NAMES), get=_GET)
    if path.suffix == ".txt":
        yield from _text_rows(path)
        return
    for row in read_rows(path, get=_GET):
        times = row.items("timestamp", least=2)
        if len(times) != 2 or not all(isinstance(time, int | float) for time in times):
            raise row.wrong("timestamp", times, "[start, end] in seconds")
        video = row.file("video").removesuffix(".mp4")
        where = f"{path}, row {row.number}"
        yield video, float(times[0]), float(times[1]), row.text("caption").strip(), where


def _text_rows(path: Path) -> Iterator[tuple[str, float, float, str, str]]:
    for number, line in enumerate(read_text(path, get=_GET).splitlines(), start=1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise UserError(
                f"{path}, line {number}: got {line.strip()[:80]!r}, wanted '<video> <start s> "
                f"<end s>##<sentence>'. Get the file again from {_GET}."
            )
        yield found[1], float(found[2]), float(found[3]), found[4], f"{path}, line {number}"
