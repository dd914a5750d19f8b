"""The single values of a row: its id, its clip, what stands at a dotted path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from vxp_data.core.tasks import PLACEHOLDER
from vxp_data.manifests import media_path
from vxp_data.manifests.base import RowError, type_name
from vxp_data.manifests.conversation import is_given
from vxp_data.manifests.media_path import is_unicode

ID_COLUMNS: Final = ("id", "sample_id", "question_id")
"""The first that is not empty names the sample."""
CLIP_COLUMNS: Final = ("clip_start_s", "clip_end_s")
_ID_CHARS: Final = 1000

_PLACEHOLDER_AT_END: Final = re.compile(  # elsewhere it may be talk about HTML
    rf"^\s*{PLACEHOLDER.pattern}|{PLACEHOLDER.pattern}\s*$", re.IGNORECASE
)


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


def clip(fields: Mapping[str, object]) -> tuple[float, float]:
    """Return the part of the video that a row is about, [start_s, end_s); (0, inf) for all of it.

    Raises:
        RowError: a time is no finite number from 0 up, or the end does not lie after the start.
    """
    start_s = _seconds(fields, "clip_start_s", 0.0)
    end_s = _seconds(fields, "clip_end_s", math.inf)
    if end_s <= start_s:
        raise RowError(f"clip_end_s is {end_s:g}, wanted more than clip_start_s, {start_s:g}")
    return start_s, end_s


def _seconds(fields: Mapping[str, object], column: str, absent: float) -> float:
    value = fields.get(column)
    if not is_given(value):
        return absent
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        seconds = float(value)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError
    except (ValueError, OverflowError):
        raise RowError(f"{column} is {value!r:.80}, wanted a number of seconds from 0 up") from None
    return seconds


def check_text_row(fields: Mapping[str, object], exchanges: list[tuple[str, str]]) -> None:
    """Refuse a row without media that is not text-only: to keep it would hide a misread column.

    Raises:
        RowError: it has no question, or a question with a media's placeholder at an end.
    """
    media = ", ".join(media_path.COLUMNS)
    columns = ", ".join(map(repr, list(fields)[:8])) or "none"
    if not any(question for question, _ in exchanges):
        raise RowError(
            f"the row has neither a media nor a conversation. Columns wanted: one of {media}; "
            f"columns found: {columns}"
        )
    if any(_PLACEHOLDER_AT_END.search(question) for question, _ in exchanges):
        raise RowError(
            "the conversation has a placeholder for a media, and the row names none. Columns "
            f"wanted: one of {media}; columns found: {columns}"
        )


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
