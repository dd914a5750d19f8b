"""The index of a run's parts: which clip lies in which row of which part, without reading them.

It is a folder of a few Parquet files, `part_index/index-*.parquet`. A merged part is indexed once
it is written; in the end one file says all. The parts are what counts: a part that no file of the
index names is found by its name and read by itself, and what the index says of a part that is gone
is not told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.pipeline.run_dir.directory import (
    RunDirectory,
    read_batches,
    read_schema,
    read_table,
    write_batches,
)
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.schemas import CURRENT_COLUMNS, EMBEDDING_FACTS
from vxp_data.storage.folder import File

INDEX_SCHEMA: Final = pa.schema(
    [
        *(EMBEDDING_FACTS.field(name) for name in CURRENT_COLUMNS),
        ("part", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int32()),
    ]
)
"""One row for each row of each part: CURRENT_COLUMNS, then the part's file name and its row."""

_PARTS: Final = b"parts"
"""Of an index file's metadata: the names of the parts that it tells of, as JSON."""
_GROUP_ROWS: Final = 1 << 17
"""Rows of a row group of the whole index."""
PARTS_TOGETHER: Final = 512
"""Parts without an index whose rows are given in one table."""


def read_part_index(run: RunDirectory) -> Iterator[pa.Table]:
    """Return what all parts hold (INDEX_SCHEMA), in tables of some 100,000 rows, in any order.

    Every row of every part comes once. A clip may be there twice all the same: with other settings,
    failed and tried again, or because a merge of parts was stopped.

    Raises:
        UserError: the run directory cannot be listed, or a file of it not be read.
    """
    left = {file.name: file for file in run.part_files()}
    for file, names in _by_reach(run.index_files()):
        new = left.keys() & names
        if not new:
            continue
        for batch in read_batches(file, columns=INDEX_SCHEMA.names):
            table = pa.Table.from_batches([batch]).cast(INDEX_SCHEMA)
            yield table if len(new) == len(names) else _of_parts(table, new)
        for name in new:
            del left[name]
    yield from _unindexed(list(left.values()))


def indexed_parts(run: RunDirectory) -> set[str]:
    """Return the names of the parts of which the index tells."""
    return {name for _, names in _by_reach(run.index_files()) for name in names}


def part_rows(name: str, part: pa.Table) -> pa.Table:
    """Return what the index says of a part (INDEX_SCHEMA).

    Args:
        name: of its file.
        part: its rows, with CURRENT_COLUMNS.
    """
    numbers = pa.array(np.zeros(len(part), dtype=np.int32))
    table = part.select(CURRENT_COLUMNS)
    table = table.append_column("part", pa.DictionaryArray.from_arrays(numbers, [name]))
    return table.append_column("row", pa.array(np.arange(len(part), dtype=np.int32))).cast(
        INDEX_SCHEMA
    )


def index_part(run: RunDirectory, part: File) -> None:
    """Write the index of one part, unless it is there."""
    file = run.part_index.file(f"index-of-{part.name}")
    if not file.is_file():
        rows = part_rows(part.name, read_table(part, columns=CURRENT_COLUMNS))
        write_index(file, [part.name], [rows])


def write_index(file: File, parts: Collection[str], rows: Iterable[pa.Table]) -> None:
    """Write a file of the index, whole.

    Args:
        file: one of the folder `part_index`.
        parts: the names of the parts that it tells of.
        rows: INDEX_SCHEMA, all of these parts.
    """
    schema = INDEX_SCHEMA.with_metadata({_PARTS: json.dumps(sorted(parts))})
    write_batches(file, schema, (table.replace_schema_metadata(schema.metadata) for table in rows))


def write_whole_index(run: RunDirectory) -> None:
    """Put one file that tells of all parts in the place of those that there are.

    Its name and its bytes follow from the parts.
    """
    before = run.index_files()
    names = sorted(file.name for file in run.part_files())
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:24]
    whole = run.part_index.file(f"index-{digest}.parquet")
    if names and whole not in before:
        write_index(whole, names, _ordered(read_part_index(run)))
    for file in before:  # once the new one is there
        if file != whole or not names:
            file.folder.remove(file.name)


def _ordered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Order rows (INDEX_SCHEMA) by part and row; those of a part come so, one after the other."""
    pieces: dict[str, list[pa.Table]] = {}
    for table in tables:
        whole = table.combine_chunks()
        part_R = whole["part"].chunk(0).indices.to_numpy() if len(whole) else np.zeros(0, np.int32)
        firsts = np.flatnonzero(np.diff(part_R, prepend=-1)).tolist()
        for first, stop in pairwise([*firsts, len(whole)]):
            pieces.setdefault(whole["part"][first].as_py(), []).append(
                whole.slice(first, stop - first)
            )
    held: list[pa.Table] = []
    for name in sorted(pieces):
        held += pieces.pop(name)
        if sum(map(len, held)) >= _GROUP_ROWS:
            yield _together(held)
            held = []
    if held:
        yield _together(held)


def _by_reach(files: Sequence[File]) -> list[tuple[File, frozenset[str]]]:
    """Return index files with the parts of which they tell, those of most parts first."""
    names = each_file(_names_in, files)
    found = zip(files, names, strict=True)
    return sorted(found, key=lambda one: (-len(one[1]), one[0].name))


def _names_in(file: File) -> frozenset[str]:
    return frozenset(json.loads((read_schema(file).metadata or {}).get(_PARTS, b"[]")))


def _of_parts(table: pa.Table, names: Collection[str]) -> pa.Table:
    wanted = pc.is_in(table["part"].cast(pa.string()), value_set=pa.array(sorted(names)))
    return table.filter(wanted)


def _unindexed(files: Sequence[File]) -> Iterator[pa.Table]:
    """Read the index's columns of parts that it does not know, many parts a table."""
    held: list[pa.Table] = []
    tables = each_file(_rows_of, files)
    for table in tables:
        held.append(table)
        if len(held) == PARTS_TOGETHER:
            yield _together(held)
            held = []
    if held:
        yield _together(held)


def _rows_of(file: File) -> pa.Table:
    return part_rows(file.name, read_table(file, columns=CURRENT_COLUMNS))


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
