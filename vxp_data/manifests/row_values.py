"""The single values of a row: its id, its clip, what stands at a dotted path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from vxp_data.manifests.base import RowError, is_given, type_name
from vxp_data.manifests.media_path import is_unicode
from vxp_data.manifests.row_media import NamedMedia, value_at_place
from vxp_data.records import Modality

ID_COLUMNS: Final = ("id", "sample_id", "question_id")
"""The first that is not empty names the sample."""
CLIP_COLUMNS: Final = ("clip_start_s", "clip_end_s")
VIDEO_CLIP_COLUMNS: Final = (
    CLIP_COLUMNS,
    ("video_start", "video_end"),
    ("clip_start", "clip_end"),
    ("start", "end"),
    ("start_s", "end_s"),
    ("start_sec", "end_sec"),
    ("start_time", "end_time"),
)
"""Pairs for a row with a video; the first of which one holds something counts."""
ALL_CLIP_COLUMNS: Final = tuple(name for pair in VIDEO_CLIP_COLUMNS for name in pair)
_PART_CLIP: Final = ("video_start", "video_end")
"""Qwen-VL's, in the part of the conversation that names the video."""
_TIMECODE: Final = re.compile(r"(?:(?P<h>\d{1,3}):)?(?P<m>\d{1,3}):(?P<s>\d{1,2}(?:[.,]\d*)?)")
_ID_CHARS: Final = 1000


def row_name(fields: Mapping[str, object]) -> str:
    """Return the row's own id; '' where it has none.

    Raises:
        RowError: the id is neither text nor a number.
    """
    for column in ID_COLUMNS:
        value = fields.get(column)
        if not is_given(value):
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RowError(f"{column} is {type_name(value)}, wanted text or a number")
        name = str(value)
        if len(name) > _ID_CHARS:
            raise RowError(f"{column} has {len(name)} characters, wanted at most {_ID_CHARS}")
        if not is_unicode(name):
            raise RowError(f"{column} is {name!r:.80}, which is not valid Unicode")
        return name
    return ""


def clip(fields: Mapping[str, object], media: Sequence[NamedMedia] = ()) -> tuple[float, float]:
    """Return the part of the video that a row is about, [start_s, end_s); (0, inf) for all of it.

    Args:
        fields: the row.
        media: what it names; with a video, `VIDEO_CLIP_COLUMNS` are read, and the part of the
            conversation that names it.

    Raises:
        RowError: a time is neither a finite number from 0 up nor a timecode, or the end does not
            lie after the start.
    """
    if not any(named.modality is Modality.VIDEO for named in media):
        return _clip_in(fields, CLIP_COLUMNS)
    for pair in () if fields.keys().isdisjoint(ALL_CLIP_COLUMNS) else VIDEO_CLIP_COLUMNS:
        if any(is_given(fields.get(column)) for column in pair):
            return _clip_in(fields, pair)
    part = value_at_place(fields, media[0].place[:-1]) if len(media[0].place) > 1 else None
    return _clip_in(part, _PART_CLIP) if isinstance(part, Mapping) else (0.0, math.inf)


def _clip_in(fields: Mapping[str, object], pair: tuple[str, str]) -> tuple[float, float]:
    start_s = _seconds(fields, pair[0], 0.0)
    end_s = _seconds(fields, pair[1], math.inf)
    if end_s <= start_s:
        raise RowError(f"{pair[1]} is {end_s:g}, wanted more than {pair[0]}, {start_s:g}")
    return start_s, end_s


def _seconds(fields: Mapping[str, object], column: str, absent: float) -> float:
    value = fields.get(column)
    if not is_given(value):
        return absent
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        timecode = _TIMECODE.fullmatch(value.strip()) if isinstance(value, str) else None
        seconds = float(value) if timecode is None else _timecode_s(timecode)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError
    except (ValueError, OverflowError):
        raise RowError(
            f"{column} is {value!r:.80}, wanted a number of seconds from 0 up, or a timecode "
            "(HH:MM:SS.mmm, MM:SS)"
        ) from None
    return seconds


def _timecode_s(match: re.Match[str]) -> float:
    """Return the seconds of a timecode; minutes and seconds beyond 59 are none.

    Raises:
        ValueError: it is no time.
    """
    minutes, seconds = int(match["m"]), float(match["s"].replace(",", "."))
    if seconds >= 60 or (match["h"] is not None and minutes >= 60):
        raise ValueError
    return int(match["h"] or 0) * 3600 + minutes * 60 + seconds


def value_at(fields: Mapping[str, object], path: str | None) -> object:
    """Return what stands at a dotted path; a column that has the dots in its name goes first."""
    if path is None:
        return None
    if path in fields:
        return fields[path]
    value: object = fields
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
