"""Parquet, as Hugging Face datasets come: rows as JSON, kept rows taken from the source again."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, ManifestRow, cannot_open
from vxp_data.manifests.renamed_media import NONE_RENAMED, Renaming, renamed_fields

_BATCH_ROWS: Final = 1024
_DAMAGES: Final = (
    *(OSError, ValueError, LookupError, OverflowError, MemoryError, RecursionError),
    pa.ArrowException,
)
"""What pyarrow raises about files that no writer makes: much more than ArrowInvalid."""


class ParquetTable:
    """A table's rows; a row's annotation is its JSON. See `base.ManifestFormat`.

    In that JSON bytes are base64, times and decimals are text, and numbers that JSON does not have
    (NaN, infinity) are null. What `write` gives has the table's own types and values.
    """

    suffixes: tuple[str, ...] = (".parquet",)
    output_suffix = ".parquet"

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return the table's rows; 1024 of them and one column chunk per column are held."""
        with _open(path) as table:
            try:
                _check_columns(path, table.schema_arrow)
                yield from _rows(table)
            except _DAMAGES as error:
                raise _damaged(path, error) from error

    def write(
        self,
        out: Path,
        source: AnyFile,
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming] = NONE_RENAMED,
    ) -> int:
        """Copy rows from the source, with its schema and metadata; a row group is held at a time.

        A row group of the source becomes a row group of `out`, if any of its rows is wanted.
        """
        todo = iter(rows)
        wanted = next(todo, None)
        start = count = 0
        with _open(source) as table, pq.ParquetWriter(out, table.schema_arrow) as writer:
            for group in range(table.num_row_groups):
                stop = start + table.metadata.row_group(group).num_rows
                taken = []
                while wanted is not None and wanted[0] < stop:
                    taken.append(wanted[0] - start)
                    wanted = next(todo, None)
                if taken:
                    rows_taken = table.read_row_group(group).take(taken)
                    names = {
                        index: renamed[start + row]
                        for index, row in enumerate(taken)
                        if start + row in renamed
                    }
                    writer.write_table(_renamed(rows_taken, names))
                count += len(taken)
                start = stop
        if wanted is not None:
            raise UserError(
                f"{source}: the manifest has {start} rows now, and row {wanted[0]} of it was "
                "chosen: it changed since it was read. Put the first one back, or run again."
            )
        return count


def _renamed(rows: Any, renamed: Mapping[int, Renaming]) -> Any:
    """Rename the media of some rows of a table, in the columns by which each names its own."""
    for index, new in renamed.items():
        fields = rows.slice(index, 1).to_pylist()[0]
        changed = renamed_fields(fields, new)
        for column in (name for name in fields if fields[name] != changed[name]):
            rows = _with_value(rows, index, column, changed[column])
    return rows


def _with_value(rows: Any, index: int, column: str, held: object) -> Any:
    at, field = rows.schema.get_field_index(column), rows.schema.field(column)
    try:
        value = pa.array([held], field.type)
    except pa.ArrowException as error:
        raise UserError(
            f"column {column!r} has the type {field.type}, and the row must name {held!r:.80}: "
            "make it a column of text, or choose duplicates.mode drop."
        ) from error
    before, after = rows[column].slice(0, index), rows[column].slice(index + 1)
    chunks = [*before.chunks, value, *after.chunks]
    return rows.set_column(at, field, pa.chunked_array(chunks, field.type))


def _open(path: AnyFile) -> Any:  # pyarrow has no types
    try:
        return pq.ParquetFile(path if isinstance(path, Path) else path.open("rb"))
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise cannot_open(path, error) from error
    except _DAMAGES as error:
        raise _damaged(path, error) from error


def _damaged(path: AnyFile, error: Exception) -> UserError:
    return UserError(
        f"{path}: cannot be read as Parquet: {error} "
        "Copy or download the manifest again, or name the format that it has."
    )


def _rows(table: Any) -> Iterator[ManifestRow]:
    index = 0
    for batch in table.iter_batches(batch_size=_BATCH_ROWS):
        for fields in _plain(batch).to_pylist():
            yield ManifestRow(
                index=index, where=f"row {index}", annotation=_row_json(fields), fields=fields
            )
            index += 1


def _check_columns(path: AnyFile, schema: Any) -> None:
    if doubled := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise UserError(
            f"{path}: the table has more than one column {', '.join(map(repr, doubled))}. "
            "Rename the columns, so that each value has one name."
        )


def _plain(batch: Any) -> Any:
    """Convert columns of times to text, of durations to numbers: Python has no nanoseconds."""
    for index, field in enumerate(batch.schema):
        if pa.types.is_temporal(field.type):
            kind = pa.int64() if pa.types.is_duration(field.type) else pa.string()
            batch = batch.set_column(index, field.name, pc.cast(batch.column(index), kind))
    return batch


def _row_json(fields: Mapping[str, object]) -> bytes:
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=_as_text)
    except ValueError:
        text = json.dumps(_finite(fields), ensure_ascii=False, default=_as_text)
    return text.encode()


def _as_text(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    return [_finite(held) for held in value] if isinstance(value, list | tuple) else value
