"""Which of a row's columns hold what, where the user says so: `--columns video=clip,...`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vxp_data.manifests import conversation_shapes as shapes
from vxp_data.manifests import row_media, row_values
from vxp_data.manifests.row_media import Place
from vxp_data.manifests.row_values import value_at

_BOTH: Final = (*row_media.FILE_COLUMNS, *row_media.STEM_COLUMNS, *row_media.WEBVID_COLUMNS)
_VIDEO: Final = (*row_media.VIDEO_COLUMNS, *row_media.VIDEO_URL_COLUMNS, *_BOTH)
_IMAGE: Final = (*row_media.IMAGE_COLUMNS, *row_media.IMAGE_URL_COLUMNS, *_BOTH)
_OPTIONS: Final = (*shapes.OPTION_COLUMNS, *shapes.NUMBERED_OPTION_COLUMNS)
_ASKED: Final = (*shapes.QUESTION_COLUMNS, shapes.INPUT_COLUMN, shapes.HISTORY_COLUMN)
ROLES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "id": ("id", row_values.ID_COLUMNS),
        "video": ("video", _VIDEO),
        "image": ("image", _IMAGE),
        "conversations": ("conversations", (*shapes.TURN_COLUMNS, *shapes.PAIRED_COLUMNS)),
        "question": ("question", (*shapes.TURN_COLUMNS, *_ASKED)),
        "answer": ("answer", (*shapes.TURN_COLUMNS, *shapes.ANSWER_COLUMNS)),
        "options": ("options", _OPTIONS),
        "caption": ("caption", (*shapes.TURN_COLUMNS, *shapes.PAIRED_COLUMNS)),
        "system": ("system", (shapes.SYSTEM_COLUMN,)),
        "start": (row_values.CLIP_COLUMNS[0], row_values.ALL_CLIP_COLUMNS),
        "end": (row_values.CLIP_COLUMNS[1], row_values.ALL_CLIP_COLUMNS),
    }
)
"""What a column may be for -> (the column as which it is read, those that it replaces)."""
_WORDS: Final = ("question", "answer", "caption", "conversations")


def with_columns(fields: Mapping[str, object], columns: Mapping[str, str]) -> Mapping[str, object]:
    """Return a row as it is read: each column that the user named under its own name.

    A kind with the name '' is one that the rows do not have: no column of it is read.
    """
    if not columns:
        return fields
    replaced = {name for role in columns for name in ROLES[role][1]}
    replaced |= {top_of(fields, name) for name in columns.values() if name}
    view = {name: value for name, value in fields.items() if name not in replaced}
    for role, name in columns.items():
        if name:
            is_answer = role == "caption" and "question" in columns
            view["answer" if is_answer else ROLES[role][0]] = value_at(fields, name)
    return view


def top_of(fields: Mapping[str, object], name: str) -> str:
    """Return the column in which a dotted path begins."""
    return name if name in fields else name.split(".")[0]


def original_place(place: Place, fields: Mapping[str, object], columns: Mapping[str, str]) -> Place:
    """Return where in the row itself a place of `with_columns` lies."""
    for role, name in columns.items():
        if name and place[0] == ROLES[role][0]:
            start = (name,) if name in fields else tuple(name.split("."))
            return (*start, *place[1:])
    return place


def has_no_words(columns: Mapping[str, str]) -> bool:
    """Whether the user says that rows have no words, or no answers."""
    return any(columns.get(role) == "" for role in _WORDS)


def has_no_media(columns: Mapping[str, str]) -> bool:
    """Whether the user says that rows have no media."""
    return columns.get("video") == "" or columns.get("image") == ""
