"""How a part lies in its file: small columns packed, vectors and images plain, in row groups.

Vectors are noise to a compressor: packed with zstd they take nearly as much room, and are read at a
third of the speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.pipeline.run_dir.directory import arrow_source, cannot_read, make_folder, read_table
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.storage.folder import File

PLAIN_COLUMNS: Final = ("mean", "embedding", "beside", "sheet")
"""Those that are not compressed."""
GROUP_BYTES: Final = 32 << 20
"""Of a row group of a merged part: what a reader holds at a time."""
_MERGED: Final = "part-merged-"
_SMALL_AT_ONCE: Final = 16
"""Parts of a store that are read at the same time."""
_MERGED_AT_ONCE: Final = 3
"""Merged parts likewise: they are held in memory."""


def merged_name(digest: str) -> str:
    """Return the file name of a merged part."""
    return f"{_MERGED}{digest}.parquet"


def is_merged(name: str) -> bool:
    """Whether a part of this name was merged of others."""
    return name.startswith(_MERGED)


def write_part(file: File, table: pa.Table) -> None:
    """Write one of a run's many parts, whole, in one row group."""
    write_groups(file, table.schema, [table])


def write_groups(file: File, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
    """Write a part, whole, with a row group a table.

    Its values come once, or few times: dictionaries of them, and the least and greatest of them,
    would hold a contact sheet four times.
    """
    make_folder(file)
    options: dict[str, Any] = {
        "compression": dict.fromkeys(_packed(schema), "zstd"),
        "use_dictionary": False,
        "write_statistics": False,
    }
    with (
        file.folder.write_path(file.name) as path,
        pq.ParquetWriter(path, schema, **options) as writer,
    ):
        for table in groups:
            writer.write_table(table, row_group_size=max(1, len(table)))


def _packed(schema: pa.Schema) -> list[str]:
    """Return the paths of the columns that are compressed, as Parquet names them."""
    return [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
        if field.name not in PLAIN_COLUMNS
    ]


def in_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put small tables of one schema together to tables of about GROUP_BYTES."""
    held: list[pa.Table] = []
    num_bytes = 0
    for table in tables:
        held.append(table)
        num_bytes += table.nbytes
        if num_bytes >= GROUP_BYTES:
            yield pa.concat_tables(held)
            held, num_bytes = [], 0
    if held:
        yield pa.concat_tables(held)


def read_groups(
    files: Sequence[File], columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[tuple[File, pa.Table]]:
    """Read parts piece by piece, in order, each piece with its file; remote ones some ahead.

    Args:
        files: parts.
        columns: that they must have.
        optional: that they may have: those that are not there stay away.

    Raises:
        UserError: a file cannot be read, or is of an older run format.
    """
    read = partial(_groups, columns=columns, optional=optional)
    if files and files[0].folder.is_remote:
        for merged, some in groupby(files, key=lambda file: is_merged(file.name)):
            chosen = list(some)
            at_once = _MERGED_AT_ONCE if merged else _SMALL_AT_ONCE
            whole = each_file(lambda file: list(read(file)), chosen, at_once)
            for file, tables in zip(chosen, whole, strict=True):
                yield from ((file, table) for table in tables)
        return
    for file in files:
        yield from ((file, table) for table in read(file))


def read_rows(file: File, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pa.Table:
    """Read some columns of a whole part; see `read_groups`."""
    return pa.concat_tables(_groups(file, columns=columns, optional=optional))


def _groups(file: File, columns: Sequence[str], optional: Sequence[str]) -> Iterator[pa.Table]:
    try:
        with arrow_source(file) as source:
            stored = pq.ParquetFile(source)
            there = stored.schema_arrow.names
            if not set(columns) <= set(there):
                read_table(file, columns=columns)  # says what it lacks
            wanted = [*columns, *(name for name in optional if name in there)]
            if not stored.num_row_groups:
                yield stored.read(wanted)
            for number in range(stored.num_row_groups):
                yield stored.read_row_group(number, columns=wanted)
    except (OSError, pa.ArrowException) as error:  # Arrow's: it is no Parquet, or cut off
        raise cannot_read(str(file), error) from error
