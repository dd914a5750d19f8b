"""What the user says of a manifest's columns: which of them holds what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vxp_data.errors import UserError, unknown_name

COLUMN_KINDS: Final = (
    *("id", "video", "image", "conversations", "question", "answer", "options", "caption"),
    *("system", "start", "end"),
)
"""What a column may hold; `start` and `end` are those of the part of the video."""


def check_columns(columns: Mapping[str, str]) -> None:
    """Check that columns are given for what rows have.

    Raises:
        UserError: there is no such thing; with the nearest that there is.
    """
    for role in columns:
        if role not in COLUMN_KINDS:
            raise unknown_name("kind of column", role, COLUMN_KINDS)


def parse_columns(text: str) -> dict[str, str]:
    """Read 'video=clip.path,question=prompt,answer=' as kinds of columns and their names.

    Raises:
        UserError: a piece is no `KIND=COLUMN`, or a kind stands twice or is unknown.
    """
    columns: dict[str, str] = {}
    for piece in filter(None, text.split(",")):
        role, equals, name = (part.strip() for part in piece.partition("="))
        if not equals or role in columns:
            problem = f"{role!r} twice" if equals else f"{piece!r}"
            raise UserError(
                f"columns {text!r}: got {problem}, wanted KIND=COLUMN, such as "
                f"video=path,question=prompt. Kinds: {', '.join(COLUMN_KINDS)}."
            )
        columns[role] = name
    check_columns(columns)
    return columns


def columns_text(columns: Mapping[str, str]) -> str:
    """Write columns as `parse_columns` reads them."""
    return ",".join(f"{role}={name}" for role, name in columns.items())
