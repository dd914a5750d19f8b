"""Intervals of time: read from replies, compared, and what is told of many.

`read_interval` is our reading of a reply, of every benchmark that asks for a moment; what others
do with the same reply lies with their conventions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from vxp_model.eval.benchmarks.base import Figure, Scored, Unit, units_of
from vxp_model.eval.benchmarks.thoughts import without_thoughts

Interval = tuple[float, float]
"""Start and end, seconds."""

THRESHOLDS: Final = (0.3, 0.5, 0.7)
"""At which grounding in video is usually told; an overlap of just as much counts."""

_UNIT = r"(?:hours?|hrs?|h|minutes?|mins?|min|m|seconds?|seonds?|secs?|sec|s)"
"""'seonds' is how the best known prompt of Charades-STA has it, and what models repeat."""
_TIME = re.compile(
    rf"""(?<![\w.$#])(?<!\d:)        # no part of a word, of another number or of a price
    (?:
        (?:(?P<hour>\d{{1,3}}):)?(?P<minute>\d{{1,3}}):(?P<second>\d{{2}}(?:\.\d+)?)(?:\s*s)?
      | (?P<h>\d{{1,3}})\s*(?:hours?|hrs?|h)\s*(?:and\s+)?(?P<hm>\d{{1,3}})\s*(?:minutes?|mins?|m)
        (?:\s*(?:and\s+)?(?P<hs>\d+(?:\.\d+)?)\s*(?:seconds?|secs?|s))?
      | (?P<m>\d{{1,4}})\s*(?:minutes?|mins?|m)\s*(?:and\s+)?
        (?P<ms>\d+(?:\.\d+)?)\s*(?:seconds?|secs?|s)
      | (?P<number>\d+(?:\.\d+)?|\.\d+)(?:[\s-]?(?P<unit>{_UNIT}))?
    )
    (?![\w%:]|\.\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_UNIT_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0}

_NEAR = r"(?:\s*(?:at|about|around|approximately|roughly|the|timestamp|time|seconds?)\b)*\s*"
_RANGE = re.compile(
    rf"\s*(?:[-\u2010-\u2015\u2212~\uff5e]+>?|\u2192|(?:up\s+)?to|until|till|through){_NEAR}", re.I
)
_AND = re.compile(rf"\s*and{_NEAR}", re.I)
_PAIR = re.compile(r"[\s,;:&/|()\[\]]*(?:and\b)?[\s,;:&/|()\[\]]*", re.I)
_BETWEEN = re.compile(rf"\bbetween{_NEAR}$", re.I)
_START = re.compile(r"\b(?:start|begin|beginn?ing|from|onset)", re.I)
_END = re.compile(r"\b(?:end|finish|stop|until|conclud)", re.I)
_LASTS_BEFORE = re.compile(
    r"\b(?:last(?:s|ing|ed)?|duration|length|for)(?:\s+(?:is|of|about|around|only|a|total))*\W*$",
    re.I,
)
_LASTS_AFTER = re.compile(r"\s*[-\s]?(?:long\b|in (?:length|duration)\b)", re.I)
_FRAME_BEFORE = re.compile(r"\b(?:frames?|persons?|options?|steps?|no\.?|number)\s*$", re.I)
_LIST_MARK_AFTER = re.compile(r"[.)]\s+[^\W\d]")
_MINUS = re.compile(r"(?:^|[\s(\[,])[-\u2212]$")
_MARKUP = re.compile(r"</?[A-Za-z_]\w*>|[*`]{1,3}")
_WRITTEN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<\s*([\d:.]+\s*s?)\s*>"), r" \1 "),  # a form that a prompt may show: <12.0>
    (re.compile(r"(?<=:\d\d),(?=\d{3}\b)"), "."),  # of subtitles: 00:00:12,500
    (
        re.compile(
            r"(?<=\d)(?:st|nd|rd|th)(?=\s+(?:sec|to\s+(?:the\s+)?\d+(?:st|nd|rd|th)\s+sec))", re.I
        ),
        "",
    ),
    (re.compile(r"\bt\s*=\s*(?=\d)", re.I), ""),
)
"""Ways to write a time, and the plain one."""
_GLUED_TO = re.compile(r"(?<=\d)to(?=\d)", re.I)
_DECIMAL_COMMAS = re.compile(r"\d,\d+\s*s?\s*(?:[-\u2013]|to)\s*\d+,\d", re.I)


def seconds_of(text: str) -> float | None:
    """Return the seconds of '12', '12.5 s', '1:02.5', '2 min 3 s'; None: it is no time."""
    found = _TIME.fullmatch(text.strip())
    return None if found is None else _seconds(found)


def _seconds(found: re.Match[str]) -> float | None:
    part = {name: float(text) for name, text in found.groupdict().items()
            if text is not None and name != "unit"}  # fmt: skip
    if "number" in part:
        time_s = part["number"] * _UNIT_S[(found["unit"] or "s")[0].lower()]
    else:
        hours = part.get("hour", part.get("h", 0.0))
        minutes = part.get("minute", part.get("hm", part.get("m", 0.0)))
        time_s = hours * 3600 + minutes * 60
        time_s += part.get("second", part.get("hs", part.get("ms", 0.0)))
    return time_s if math.isfinite(time_s) else None


@dataclass(frozen=True, slots=True)
class _Time:
    """A time in a reply."""

    time_s: float
    has_unit: bool
    before: str
    """What stands between it and the time before it."""


def read_interval(reply: str) -> Interval | None:
    """Return the moment that a reply names: start and end, seconds, the smaller first.

    Of several ranges the first counts, as the first guess does in 'R1'. Ranges are looked for
    first ('12 - 17', 'from 12 to 17', 'between 0:12 and 0:17'), then a start and an end ('starts
    at 12 s and ends at 17 s'), then two times and no other. How long something lasts is no time,
    and neither are numbers of frames, of lists, or parts of words. Never raises.

    Returns:
        None where no moment is clear.
    """
    text = _MARKUP.sub(" ", without_thoughts(reply))
    for written, plain in _WRITTEN:
        text = written.sub(plain, text)
    text = _GLUED_TO.sub(" to ", text)
    if _DECIMAL_COMMAS.search(text):
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    times = list(_times(text))
    if found := next(_ranges(times), None) or _start_and_end(times) or _two(times):
        return (min(found), max(found))
    return None


def _times(text: str) -> Iterator[_Time]:
    """Return the times of a text in order; other numbers end up in what stands between."""
    last = 0
    for found in _TIME.finditer(text):
        start, end = found.span()
        before = text[last:start]
        near, after = before[-40:], text[end : end + 20]  # what is between may be long
        is_list_mark = not text[max(start - 20, 0) : start].rpartition("\n")[2].strip()
        is_other = (
            (is_list_mark and _LIST_MARK_AFTER.match(after))
            or _LASTS_AFTER.match(after)
            or _LASTS_BEFORE.search(near)
            or _FRAME_BEFORE.search(near)
            or (_MINUS.search(near) and (last == 0 or near.strip() not in "-\u2212"))
        )
        time_s = None if is_other else _seconds(found)
        if time_s is None:
            continue
        has_unit = found["unit"] is not None or found["number"] is None
        yield _Time(time_s, has_unit, before)
        last = found.end()


def _ranges(times: Sequence[_Time]) -> Iterator[Interval]:
    for first, second in pairwise(times):
        is_between = _BETWEEN.search(first.before[-40:]) and _AND.fullmatch(second.before)
        if is_between or _RANGE.fullmatch(second.before):
            yield first.time_s, second.time_s


def _start_and_end(times: Sequence[_Time]) -> Interval | None:
    starts = [one.time_s for one in times
              if _START.search(one.before) and not _END.search(one.before)]  # fmt: skip
    ends = [one.time_s for one in times
            if _END.search(one.before) and not _START.search(one.before)]  # fmt: skip
    return (starts[0], ends[0]) if starts and ends else None


def _two(times: Sequence[_Time]) -> Interval | None:
    if len(times) != 2:
        return None
    first, second = times
    are_clear = _PAIR.fullmatch(second.before) or (first.has_unit and second.has_unit)
    return (first.time_s, second.time_s) if are_clear else None


def interval_text(interval: Interval) -> str:
    """Return an interval as parsed answers hold it: '[12.0, 17.5]'."""
    return json.dumps([float(second) for second in interval])


def interval_of(text: str | None) -> Interval | None:
    """Return what `interval_text` wrote; None for anything else."""
    if text is None:
        return None
    try:
        start_s, end_s = json.loads(text)
        return float(start_s), float(end_s)
    except (ValueError, TypeError):
        return None


def interval_iou(one: Interval, other: Interval) -> float:
    """Return overlap over extent of two intervals, in [0, 1].

    The extent is from the first start to the last end, also where they do not meet, as all
    scorers of grounding have it. One that ends before it starts meets nothing. Two that are the
    same moment without extent: 1.
    """
    overlap_s = min(one[1], other[1]) - max(one[0], other[0])
    extent_s = max(one[1], other[1]) - min(one[0], other[0])
    if extent_s <= 0:
        return float(one == other and one[0] <= one[1])
    return max(overlap_s, 0.0) / extent_s


def best_iou(predicted: Interval | None, golds: Iterable[Sequence[float]]) -> float:
    """Return the greatest IoU with any of the right windows: 0 where nothing is predicted.

    For rows of QVHighlights answers: `best_iou(row["predicted"], row["gold"])`.
    """
    if predicted is None:
        return 0.0
    pair = (float(predicted[0]), float(predicted[1]))
    return max((interval_iou(pair, (float(g[0]), float(g[1]))) for g in golds), default=0.0)


def recall_at(ious: Sequence[float], threshold: float) -> float:
    """Return R1: the share of IoUs that reach a threshold; NaN over nothing."""
    return sum(iou >= threshold for iou in ious) / len(ious) if ious else math.nan


def interval_figures(
    scored: Sequence[Scored], *, suffix: str = "", mean_name: str = "mIoU"
) -> list[Figure]:
    """Return the mean IoU, then R1 at the usual thresholds.

    Args:
        scored: whose scores are IoUs.
        suffix: of the figures' names, such as ', chain 1'.
        mean_name: what the benchmark's makers call the mean.
    """
    figures = [Figure.of(f"{mean_name}{suffix}", units_of(scored))]
    for threshold in THRESHOLDS:
        units = (
            Unit(value=float(one.score >= threshold), video=one.question.video) for one in scored
        )
        figures.append(Figure.of(f"R1@{threshold}{suffix}", units))
    return figures
