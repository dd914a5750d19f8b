"""Subtitles: read from SubRip and LongVideoBench's JSON, chosen by the frames that are shown."""

from __future__ import annotations

import codecs
import html
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_model.eval.benchmarks.base import SubtitleLine

_TIMES: Final = re.compile(r"^\s*([\d:.,]+)\s*-->\s*([\d:.,]+)")
_TIME: Final = re.compile(r"^(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)$")
_TAG: Final = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_SHORT_S: Final = 1.0
"""A shorter line counts as this long when it is asked whether a frame lies in it."""


def read_subtitles(
    path: Path, offset_s: float, duration_s: float
) -> tuple[SubtitleLine, ...] | None:
    """Return the lines of a subtitle file, in the order of their beginnings.

    Blocks that cannot be read are left out; nothing that a file may hold raises.

    Args:
        path: '.json': LongVideoBench's; else SubRip.
        offset_s: time in the file at which the video begins, seconds.
        duration_s: of the video; a line without an end is taken to last to it.

    Returns:
        lines: in the video's own time; None: there is no such file, or it cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")
    read = _of_json if path.suffix.lower() == ".json" else _of_srt
    lines = [
        SubtitleLine(
            start_s=start_s - offset_s,
            end_s=duration_s if end_s is None else end_s - offset_s,
            text=said,
        )
        for start_s, end_s, said in read(text)
        if said
    ]
    return tuple(sorted(lines, key=lambda line: line.start_s))


def on_screen(
    lines: Sequence[SubtitleLine], frame_time_s: Sequence[float]
) -> tuple[SubtitleLine, ...]:
    """Return the lines that are on screen at a frame, each once, in time order.

    Args:
        lines: in time order; one is there from its beginning to before its end.
        frame_time_s: of every frame, seconds, in order.
    """
    shown = []
    for line in lines:
        first = bisect_left(frame_time_s, line.start_s)
        if first < len(frame_time_s) and frame_time_s[first] < line.end_s:
            shown.append(line)
    return tuple(shown)


def between_frames(
    lines: Sequence[SubtitleLine], frame_time_s: Sequence[float]
) -> tuple[tuple[float, str], ...]:
    """Return where lines stand between frames: behind all that are not later than their middle.

    A line in which no frame lies is left out; one of less than a second counts as a second.

    Args:
        lines: in time order.
        frame_time_s: of every frame, seconds, in order.

    Returns:
        timed_texts: as `Prompt.timed_texts`, never going back in time.

    Source:
        longvideobench/LongVideoBench @ 2aa4f91 `longvideobench_dataset.py`.
    """
    found: list[tuple[float, str]] = []
    latest_s = float("-inf")
    for line in lines:
        start_s, end_s = line.start_s, line.end_s
        middle_s = (start_s + end_s) / 2
        latest_s = max(latest_s, middle_s)
        if end_s - start_s < _SHORT_S:
            start_s, end_s = middle_s - _SHORT_S / 2, middle_s + _SHORT_S / 2
        first = bisect_right(frame_time_s, start_s)
        if first < len(frame_time_s) and frame_time_s[first] < end_s:
            found.append((latest_s, line.text))
    return tuple(found)


def _of_srt(text: str) -> Iterator[tuple[float, float | None, str]]:
    """Yield (start, end, text) of every block that has times.

    A block begins with its times, or with a number behind an empty line. Empty lines between two
    blocks may be missing, and a text may have one.
    """
    times: re.Match[str] | None = None
    said: list[str] = []
    for line in [*_LINE_END.split(text), "0 --> 0"]:
        found = _TIMES.match(line)
        begins = line.strip().isdecimal() and bool(said) and not said[-1].strip()
        if found is None and not begins:
            said.append(line)
            continue
        if found is not None and said and said[-1].strip().isdecimal():
            said.pop()  # the number of the block that begins here
        start_s, end_s = (_seconds(times[1]), _seconds(times[2])) if times else (None, None)
        if start_s is not None and end_s is not None:
            yield start_s, end_s, _said(" ".join(said))
        times, said = found, []


def _of_json(text: str) -> Iterator[tuple[float, float | None, str]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        stamp = row.get("timestamp")
        if isinstance(stamp, list) and len(stamp) == 2:
            start_s, end_s, said = _seconds(stamp[0]), _seconds(stamp[1]), row.get("text")
            is_open = stamp[1] is None
        else:
            start_s, end_s = _seconds(row.get("start")), _seconds(row.get("end"))
            said, is_open = row.get("line"), row.get("end") is None
        if start_s is not None and (is_open or end_s is not None) and isinstance(said, str):
            yield start_s, end_s, _said(said)


def _seconds(stamp: Any) -> float | None:
    """Return a time that is told in seconds, as 'mm:ss' or as 'h:mm:ss,mmm'."""
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return float(stamp)
    found = _TIME.match(stamp.strip()) if isinstance(stamp, str) else None
    if found is None:
        return None
    seconds = float(found[3].replace(",", "."))
    return int(found[1] or 0) * 3600 + int(found[2] or 0) * 60 + seconds


def _said(text: str) -> str:
    """Return a text without tags, on one line."""
    return " ".join(html.unescape(_TAG.sub("", text)).replace("\\N", " ").split())
