"""Rows that name another media than they did: all else of them stays as it was, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from vxp_data.manifests.conversation import is_given
from vxp_data.manifests.media_path import COLUMNS
from vxp_data.storage.folder import Folder

NONE_RENAMED: Final[Mapping[int, str]] = MappingProxyType({})


def media_name(root: Path | Folder, uri: str) -> str:
    """Return the name by which a row below a media root names a file: relative where it can."""
    prefix = str(root).rstrip("/") + "/"
    return uri.removeprefix(prefix)


def media_column(fields: Mapping[str, object]) -> str:
    """Return the column by which a row names its media.

    Raises:
        RuntimeError: it has none: our bug, since the row was read as one with a media.
    """
    for column in COLUMNS:
        value = fields.get(column)
        first = (value or [None])[0] if isinstance(value, list) else value
        if is_given(first):
            return column
    raise RuntimeError(f"the row names no media; this is a bug. Columns: {', '.join(fields)}")


def rename_in_value(value: object, name: str) -> Any:
    """Write a media's name where a column has it: a text, a list's first, or an object's `path`."""
    if isinstance(value, list):
        return [rename_in_value(value[0], name), *value[1:]]
    if isinstance(value, Mapping):
        return {**value, "path": name}
    return name


def rename_in_json(annotation: bytes, name: str) -> bytes:
    """Rename the media of a JSON row. Only that text changes, where it stands just once."""
    text = annotation.decode()
    fields = json.loads(text)
    column = media_column(fields)
    old = fields[column]
    indices = []
    for key in re.finditer(rf"{re.escape(json.dumps(column))}\s*:\s*", text):
        value, end = json.JSONDecoder().raw_decode(text, key.end())
        if value == old:
            indices.append((key.end(), end))
    new = json.dumps(rename_in_value(old, name), ensure_ascii=False)
    if len(indices) == 1:
        start, end = indices[0]
        return (text[:start] + new + text[end:]).encode()
    return json.dumps({**fields, column: rename_in_value(old, name)}, ensure_ascii=False).encode()
