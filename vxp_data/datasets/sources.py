"""The rows of annotation files, as their layouts want them, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.datasets.layouts.base import AnnotationLayout, Companion, Reader
from vxp_data.errors import UserError
from vxp_data.manifests.base import MAX_ROW_CHARS, AnyFile, ManifestFormat, cannot_open, not_utf8
from vxp_data.manifests.csv_table import CsvTable
from vxp_data.manifests.json_array import JsonArray
from vxp_data.manifests.json_lines import JsonLines
from vxp_data.manifests.json_object import members

_BATCH_ROWS: Final = 256
_MEDIA_BATCH_ROWS: Final = 4
"""Where each row brings a whole video."""
_TABLES: Final[Mapping[Reader, type[ManifestFormat]]] = {
    Reader.CSV: CsvTable,
    Reader.JSON: JsonArray,
    Reader.JSONL: JsonLines,
}
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRow:
    """A row as it was read."""

    where: str
    """'line 12' or 'row 3', for messages."""
    fields: Mapping[str, Any]
    key: str = ""
    problem: str = ""
    """Why it has no usable fields."""
    media: bytes | None = None
    """The media's bytes, if they stand in the row and were asked for."""


def read_rows(
    path: AnyFile, layout: AnnotationLayout, *, with_media: bool = False
) -> Iterator[ReadRow]:
    """Return the rows of an annotation file in order; memory does not grow with their number.

    Args:
        path: the file.
        layout: how it is written.
        with_media: read `layout.embedded` too.

    Raises:
        UserError: the file cannot be read as its layout.
    """
    if layout.reader is Reader.PARQUET:
        yield from _parquet_rows(path, layout, with_media)
    elif layout.reader is Reader.LINES:
        yield from _lines(path)
    elif layout.reader is Reader.OBJECT:
        for index, (key, fields, problem) in enumerate(members(path, layout.inside)):
            yield ReadRow(
                where=f"row {index} ({key!r:.80})", fields=fields, key=key, problem=problem
            )
    else:
        for row in _TABLES[layout.reader]().rows(path):
            yield ReadRow(where=row.where, fields=row.fields, problem=row.problem)


def read_companion(path: AnyFile, kind: Companion) -> Mapping[str, Any]:
    """Read the second file of a layout, whole: tens of thousands of short entries.

    Raises:
        UserError: it cannot be read as such.
    """
    if kind is Companion.NONE:
        return _EMPTY
    if kind is Companion.ARRAY:
        rows = (row.fields for row in JsonArray().rows(path))
        return {str(fields["question_id"]): fields for fields in rows if "question_id" in fields}
    try:
        with path.open(encoding="utf-8-sig") as file:
            value = json.load(file)
    except OSError as error:
        raise cannot_open(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}. Download the file again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: got {type(value).__name__}, wanted a JSON object.")
    return value


def _lines(path: AnyFile) -> Iterator[ReadRow]:
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            lines = iter(lambda: file.readline(MAX_ROW_CHARS), "")
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield ReadRow(where=f"line {number}", fields={"line": line})
    except OSError as error:
        raise cannot_open(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def _parquet_rows(path: AnyFile, layout: AnnotationLayout, with_media: bool) -> Iterator[ReadRow]:
    try:
        table = pq.ParquetFile(path if isinstance(path, Path) else path.open("rb"))
    except OSError as error:
        raise cannot_open(path, error) from error
    except pa.ArrowException as error:
        raise _damaged(path, error) from error
    with table:
        columns = [column for column in layout.columns if _has(table.schema_arrow, column)]
        if not columns:
            raise UserError(
                f"{path}: has none of the columns {', '.join(layout.columns)}; it has "
                f"{', '.join(table.schema_arrow.names)}. Is this the file that the layout is for?"
            )
        wants_media = with_media and bool(layout.embedded)
        if wants_media:
            columns.append(layout.embedded)
        batch_rows = _MEDIA_BATCH_ROWS if wants_media else _BATCH_ROWS
        index = 0
        try:
            for batch in table.iter_batches(batch_size=batch_rows, columns=columns):
                for fields in batch.to_pylist():
                    media = _taken_out(fields, layout.embedded) if wants_media else None
                    yield ReadRow(where=f"row {index}", fields=fields, media=media)
                    index += 1
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error


def _has(schema: Any, column: str) -> bool:
    """Whether a schema has a column; dots lead into structs."""
    name, *inner = column.split(".")
    if name not in schema.names:
        return False
    kind = schema.field(name).type
    for name in inner:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return False
        kind = kind.field(name).type
    return True


def _taken_out(fields: dict[str, Any], column: str) -> bytes | None:
    """Remove the media's bytes from a row and return them."""
    *outer, last = column.split(".")
    held: Any = fields
    for name in outer:
        held = held.get(name) if isinstance(held, dict) else None
    value = held.pop(last, None) if isinstance(held, dict) else None
    return value if isinstance(value, bytes) else None


def _damaged(path: AnyFile, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as Parquet: {error} Download the file again.")
