"""Small parts become big ones: a merge is begun, committed and ended, and may be killed anywhere.

A merge is written down (`part_index/merge-*.json`: of which parts, and what they become), its part
is written whole, contact sheets first, then its index; from here on it counts. Only then the parts
that it was made of are removed, and last what was written down. So a clip is always in one part at
least, sometimes in two. What a killed merge left is ended or forgotten by `end_merges`, before
another begins.

Only the holder of the run's lock begins merges. A part that is gone when it is to be read has been
merged already: nobody else removes any.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.pipeline.run_dir.directory import RunDirectory, cannot_read
from vxp_data.pipeline.run_dir.part_index import index_part
from vxp_data.pipeline.run_dir.part_table import (
    in_groups,
    is_merged,
    merged_name,
    write_groups,
)
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.schemas import THUMBNAIL_SCHEMA
from vxp_data.storage.folder import File, Folder

PART_BYTES: Final = 256 << 20
"""Of a merged part, about."""
_PREFIX: Final = "merge-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Parts that become one."""

    run: RunDirectory
    sources: tuple[str, ...]
    """Names of the parts."""

    @property
    def record(self) -> str:
        """Return the name under which it is written down."""
        return f"{_PREFIX}{hashlib.sha256(' '.join(self.sources).encode()).hexdigest()[:24]}.json"


def full_merges(run: RunDirectory, *, part_bytes: int = PART_BYTES) -> list[Merge]:
    """Return merges of small parts to parts of full size; those that are left over wait."""
    small = {name: size for name, size in _sizes(run).items() if not is_merged(name)}
    chosen = _filled(small, part_bytes)
    if chosen and sum(small[name] for name in chosen[-1]) < part_bytes:
        chosen.pop()
    return [Merge(run=run, sources=tuple(names)) for names in chosen]


def last_merges(run: RunDirectory, *, part_bytes: int = PART_BYTES) -> list[Merge]:
    """Return merges after which no small part is left; none where there is none.

    Merged parts of less than half the size are merged again.
    """
    sizes = _sizes(run)
    if all(map(is_merged, sizes)):
        return []
    open_ones = {
        name: size for name, size in sizes.items() if not is_merged(name) or size < part_bytes // 2
    }
    return [Merge(run=run, sources=tuple(names)) for names in _filled(open_ones, part_bytes)]


def merge(task: Merge) -> None:
    """Merge parts. Called again, it goes on where it was stopped.

    Parts of other columns than the first has stay as they are, for a merge of their own.

    Raises:
        UserError: one cannot be read, or nothing be written; nothing is lost.
    """
    if _end_written(task.run, task.record):
        return
    found = list(_read(task.run.parts, task.sources))
    if not found:
        return
    schema = found[0][2].schema
    names, digests, tables = zip(*(one for one in found if one[2].schema == schema), strict=True)
    merged = merged_name(hashlib.sha256(b"".join(digests)).hexdigest()[:24])
    text = json.dumps({"part": merged, "sources": list(names)})
    task.run.part_index.write_text(task.record, text)
    sheets = [sheet.cast(THUMBNAIL_SCHEMA) for _, _, sheet in _read(task.run.thumbnails, names)]
    if sheets:
        write_groups(task.run.thumbnails.file(merged), THUMBNAIL_SCHEMA, in_groups(sheets))
    write_groups(task.run.parts.file(merged), tables[0].schema, in_groups(tables))
    _end(task.run, task.record, merged, names)


def merge_here(run: RunDirectory) -> None:
    """Merge all small parts, one merge after the other; see `last_merges`."""
    end_merges(run)
    while tasks := last_merges(run):  # again where some were of other columns
        for task in tasks:
            merge(task)


def end_merges(run: RunDirectory) -> None:
    """End the merges that were stopped, and forget those that had written nothing.

    Raises:
        UserError: the run directory cannot be listed or written to.
    """
    for name in run.part_index.names():
        if name.startswith(_PREFIX) and not _end_written(run, name):
            run.part_index.remove(name)


def _end_written(run: RunDirectory, record: str) -> bool:
    """End a merge that was written down, if its part is there; return whether it is."""
    try:
        known = json.loads(run.part_index.read_bytes(record))
    except FileNotFoundError:
        return False
    if not run.parts.exists(known["part"]):
        run.thumbnails.remove(known["part"])
        return False
    _end(run, record, known["part"], known["sources"])
    return True


def _end(run: RunDirectory, record: str, merged: str, names: Sequence[str]) -> None:
    """Index a merged part, then remove what it was made of, and what was written down."""
    index_part(run, run.parts.file(merged))
    for folder in (run.thumbnails, run.parts):  # sheets without a part would stay
        _remove_all(folder, [name for name in names if name != merged])
    run.part_index.remove(record)


def _read(folder: Folder, names: Sequence[str]) -> Iterator[tuple[str, bytes, pa.Table]]:
    """Read those of the files that are there: name, digest of all that it holds, and rows."""

    def read(file: File) -> tuple[str, bytes, pa.Table]:
        try:
            data = file.read_bytes()
            table = pq.read_table(pa.BufferReader(data))
        except (OSError, pa.ArrowException) as error:
            raise cannot_read(str(file), error) from error
        return file.name, hashlib.sha256(data).digest(), table

    there = set(folder.names())
    return each_file(read, [folder.file(name) for name in names if name in there])


def _remove_all(folder: Folder, names: Sequence[str]) -> None:
    def remove(file: File) -> None:
        file.folder.remove(file.name)

    for _ in each_file(remove, list(map(folder.file, names))):
        pass


def _filled(sizes: dict[str, int], part_bytes: int) -> list[list[str]]:
    """Put parts, by name, into as many merges as they fill; the last may not be full."""
    chosen: list[list[str]] = []
    room = 0
    for name, size in sorted(sizes.items()):
        if room <= 0:
            chosen.append([])
            room = part_bytes
        chosen[-1].append(name)
        room -= size
    return chosen


def _sizes(run: RunDirectory) -> dict[str, int]:
    try:
        found = run.parts.sizes().items()
    except OSError as error:
        raise cannot_read(str(run.parts), error) from error
    is_part = re.compile(r"part-.+\.parquet").fullmatch
    return {name: size for name, size in found if is_part(name)}
