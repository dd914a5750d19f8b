"""Rows that name another media than they did: all else of them stays as it was, byte for byte."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from vxp_data.manifests.conversation_shapes import IN_TEXT
from vxp_data.manifests.row_columns import original_place, with_columns
from vxp_data.manifests.row_media import Place, find_media, value_at_place
from vxp_data.storage.folder import Folder

_SPACE: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Renaming:
    """What a row is to name instead of its own media."""

    name: str
    """Of the row's first media."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What the user says of the row's columns; see `row_columns`."""

    def edits(self, fields: Mapping[str, object]) -> dict[Place, object]:
        """Return what must stand where in a row; what stands there already is left out.

        Raises:
            RuntimeError: the row names no media: our bug, since it was read as one that does.
        """
        view = with_columns(fields, self.columns)
        media = find_media(view)
        if not media:
            raise RuntimeError(
                f"the row names no media; this is a bug. Columns: {', '.join(fields)}"
            )
        edits = {
            original_place(place, fields, self.columns): value
            for place, value in media[0].edits(self.name, view).items()
        }
        return {
            place: value for place, value in edits.items() if value_at_place(fields, place) != value
        }


NONE_RENAMED: Final[Mapping[int, Renaming]] = MappingProxyType({})


def media_name(root: Path | Folder, uri: str) -> str:
    """Return the name by which a row below a media root names a file: relative where it can."""
    prefix = str(root).rstrip("/") + "/"
    return uri.removeprefix(prefix)


def renamed_fields(fields: Mapping[str, object], renaming: Renaming) -> dict[str, Any]:
    """Return a row's columns with the other media in them."""
    row = copy.deepcopy(dict(fields))
    for place, value in renaming.edits(fields).items():
        row = _with(row, place, value)
    return row


def _with(held: Any, place: Place, value: object) -> Any:
    """Return a value with another one at a place of it; lists and objects are changed."""
    if not place:
        return value
    key, *rest = place
    if key == IN_TEXT:
        return json.dumps(_with(json.loads(held), tuple(rest), value), ensure_ascii=False)
    held[key] = _with(held[key], tuple(rest), value)
    return held


def rename_in_json(annotation: bytes, renaming: Renaming) -> bytes:
    """Rename the media of a JSON row. Only that text changes."""
    text = annotation.decode()
    fields = json.loads(text)
    for place, value in renaming.edits(fields).items():
        outer = place[: place.index(IN_TEXT)] if IN_TEXT in place else place
        if outer != place:
            value = _with(value_at_place(fields, outer), place[len(outer) :], value)
        start, end = _span(text, outer)
        text = text[:start] + json.dumps(value, ensure_ascii=False) + text[end:]
    return text.encode()


def _span(text: str, place: Place) -> tuple[int, int]:
    """Return where in JSON text the value at a place begins and ends."""
    decoder = json.JSONDecoder()
    at = _after_space(text, 0)
    for key in place:
        at = _after_space(text, at + 1)  # behind the brace or bracket
        index = 0
        while True:
            name: str | int = index
            if isinstance(key, str):
                name, at = decoder.raw_decode(text, at)
                at = _after_space(text, _after_space(text, at) + 1)  # behind the colon
            if name == key:
                break
            _, at = decoder.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)  # behind the comma
            index += 1
    return at, decoder.raw_decode(text, at)[1]


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
