"""Small parts become big ones: a merge is begun, committed and ended, and may be killed anywhere.

A merge is written down (`part_index/merge-*.json`: which parts), its part is written whole, contact
sheets first, then its index; from here on it counts. Only then the parts that it was made of are
removed, and last what was written down. So a clip is always in one part at least, sometimes in two.
What a killed merge left is ended or forgotten by `end_merges`, before another begins.

Only the holder of the run's lock begins merges. A part that is gone when it is to be read has been
merged already: nobody else removes any.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
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
    digest: str
    """Drawn at random: parts of the same names may have other rows one day."""
    sources: tuple[str, ...]
    """Names of the parts."""

    @property
    def name(self) -> str:
        """Return the name of the part that they become."""
        return merged_name(self.digest)

    @property
    def record(self) -> File:
        """Where it is written down."""
        return self.run.part_index.file(f"{_PREFIX}{self.digest}.json")


def full_merges(run: RunDirectory, *, part_bytes: int = PART_BYTES) -> list[Merge]:
    """Return merges of small parts to parts of full size; those that are left over wait."""
    small = {name: size for name, size in run.parts.sizes().items() if _is_small_part(name)}
    chosen = _filled(small, part_bytes)
    if chosen and sum(small[name] for name in chosen[-1]) < part_bytes:
        chosen.pop()
    return [_merge(run, names) for names in chosen]


def last_merges(run: RunDirectory, *, part_bytes: int = PART_BYTES) -> list[Merge]:
    """Return merges after which no small part is left; none where there is none.

    Merged parts of less than half the size are merged again.
    """
    sizes = {name: size for name, size in run.parts.sizes().items() if _is_part(name)}
    if all(map(is_merged, sizes)):
        return []
    open_ones = {
        name: size for name, size in sizes.items() if not is_merged(name) or size < part_bytes // 2
    }
    return [_merge(run, names) for names in _filled(open_ones, part_bytes)]


def merge(task: Merge) -> None:
    """Merge parts. Called again, it goes on where it was stopped.

    Parts of other columns than the first has stay as they are, for a merge of their own.

    Raises:
        UserError: one cannot be read, or nothing be written; nothing is lost.
    """
    if not task.run.parts.exists(task.name):
        task = _written(task)
    _end(task)


def end_merges(run: RunDirectory) -> None:
    """End the merges that were stopped, and forget those that had written nothing.

    Raises:
        UserError: the run directory cannot be listed or written to.
    """
    for name in run.part_index.names():
        if name.startswith(_PREFIX):
            record = json.loads(run.part_index.read_bytes(name))
            task = Merge(run=run, digest=record["digest"], sources=tuple(record["sources"]))
            if run.parts.exists(task.name):
                _end(task)
            else:
                run.thumbnails.remove(task.name)
                run.part_index.remove(name)


def _merge(run: RunDirectory, names: Sequence[str]) -> Merge:
    return Merge(run=run, digest=secrets.token_hex(12), sources=tuple(names))


def _written(task: Merge) -> Merge:
    """Write a merge down, then its part; return it with the parts that it was made of."""
    found = list(_read(task.run.parts, task.sources))
    tables = [table for _, table in found if table.schema == found[0][1].schema]
    names = [name for name, table in found if table.schema == found[0][1].schema]
    task = replace(task, sources=tuple(names))
    if not names:
        return task
    text = json.dumps({"digest": task.digest, "sources": names})
    task.record.folder.write_text(task.record.name, text)
    sheets = [sheet.cast(THUMBNAIL_SCHEMA) for _, sheet in _read(task.run.thumbnails, names)]
    if sheets:
        file = task.run.thumbnails.file(task.name)
        write_groups(file, THUMBNAIL_SCHEMA, in_groups(sheets))
    write_groups(task.run.parts.file(task.name), tables[0].schema, in_groups(tables))
    return task


def _read(folder: Folder, names: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Read those of the files that are there."""
    there = set(folder.names())
    files = [folder.file(name) for name in names if name in there]
    return zip((file.name for file in files), each_file(read_table, files), strict=True)


def _end(task: Merge) -> None:
    """Index a merged part, then remove what it was made of, and what was written down."""
    if not task.sources:
        return
    index_part(task.run, task.run.parts.file(task.name))
    for folder in (task.run.thumbnails, task.run.parts):  # sheets without a part would stay
        _remove_all(folder, task.sources)
    task.record.folder.remove(task.record.name)


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


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def _is_small_part(name: str) -> bool:
    return _is_part(name) and not is_merged(name)
