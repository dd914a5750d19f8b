"""`vxp-data upgrade`: a run of format 4, 5 or 6 becomes one of ours; no video is read.

Format 6 had vectors packed, no scores and means beside them, parts of a few clips, and no index of
them. Format 5 had also conversations as pairs, one medium a row, and fewer facts about files.
Format 4 had also embeddings as lists of lists, other names for some columns and settings, and its
own number among what names the frame sampling. Every file is written anew, beside what it replaces,
and run.json last. So whatever stops it, the run stays an old one to all other commands, nothing is
lost, and the same command goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from vxp_data.errors import UserError
from vxp_data.pipeline.old_formats import (
    is_new_part,
    upgraded_part,
    upgraded_record,
    upgraded_table,
)
from vxp_data.pipeline.run_dir.directory import (
    RunDirectory,
    cannot_read,
    column_names,
    open_run,
    read_row_groups,
    read_schema,
    read_table,
    write_batches,
)
from vxp_data.pipeline.run_dir.embedding_column import part_name
from vxp_data.pipeline.run_dir.lock import RunLock, run_lock
from vxp_data.pipeline.run_dir.part_index import write_whole_index
from vxp_data.pipeline.run_dir.part_merging import merge_here
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.pipeline.sampler_names import SamplerNames
from vxp_data.schemas import (
    DUPLICATE_SCHEMA,
    EMBEDDING_FACTS,
    RUN_FORMAT_VERSION,
    SAMPLE_SCHEMA,
    THUMBNAIL_SCHEMA,
    UPGRADED_FORMAT_VERSIONS,
)
from vxp_data.storage.folder import File


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """What was done."""

    was_current: bool
    """The run is of our format already: nothing was done."""
    num_parts: int = 0
    """Embeddings parts that were written anew."""
    num_unknown: int = 0
    """Parts whose frame sampling no settings of ours give: they keep its name, and are not used."""


def upgrade(where: str | Path) -> Upgraded:
    """Convert a run of an older format, finished or stopped, to ours; one of ours is left as it is.

    Goes on where an earlier call was stopped.

    Raises:
        UserError: there is no run, it is of a format that we do not know or in use, or a file
            cannot be read or written; nothing is lost.
    """
    run = open_run(where)
    if _is_current(run):  # before a lock is put where no run is
        return Upgraded(was_current=True)
    with run_lock(run.root, "vxp-data upgrade") as lock:
        if _is_current(run):  # by now
            return Upgraded(was_current=True)
        return _upgrade(run, lock)


def _upgrade(run: RunDirectory, lock: RunLock) -> Upgraded:
    run.remove_unfinished()
    record = run.read_json() if run.run_json.is_file() else None
    samplers = SamplerNames(record)
    parts = run.part_files()
    done = list(each_file(partial(_upgrade_part, run, lock, samplers), parts))
    named = {file.name for file in run.part_files()}
    for file in run.thumbnail_files():
        if file.name not in named:  # their clips were not embedded before the run was stopped
            _upgrade_table(file, THUMBNAIL_SCHEMA, samplers)
    lock.check()
    merge_here(run)
    write_whole_index(run)
    for file, schema in _tables(run):
        _upgrade_table(file, schema, samplers)
    if run.means.is_file():
        _upgrade_means(run.means, samplers)
    lock.check()
    if record is not None:
        run.write_run(upgraded_record(record, samplers))
    return Upgraded(
        was_current=False,
        num_parts=sum(one is not None for one in done),
        num_unknown=sum(one is False for one in done),
    )


def _tables(run: RunDirectory) -> list[tuple[File, pa.Schema]]:
    """Return the tables with other names of columns, those that are there, and our schemas."""
    tables = [
        (run.samples, SAMPLE_SCHEMA),
        (run.media, EMBEDDING_FACTS),
        (run.duplicates, DUPLICATE_SCHEMA),
    ]
    return [(file, schema) for file, schema in tables if file.is_file()]


def _is_current(run: RunDirectory) -> bool:
    """Whether a run is of our format.

    Raises:
        UserError: there is none, or it is of a format that we do not know.
    """
    if run.run_json.is_file():
        found = run.read_json().get("format_version")
        if found not in (*UPGRADED_FORMAT_VERSIONS, RUN_FORMAT_VERSION):
            raise UserError(
                f"{run.root} is of run format {found}; `upgrade` converts formats "
                f"{' and '.join(map(str, UPGRADED_FORMAT_VERSIONS))} to {RUN_FORMAT_VERSION}. "
                "Prune into a new directory."
            )
        return bool(found == RUN_FORMAT_VERSION)
    if not run.samples.is_file():
        raise UserError(
            f"{run.root} holds no run: neither {run.run_json.name} nor {run.samples.name}. Name "
            "the directory that was given to `vxp-data prune --out`."
        )
    if any(column_names(file) != schema.names for file, schema in _tables(run)):
        return False
    parts = each_file(column_names, run.part_files())
    sheets = each_file(column_names, run.thumbnail_files())
    return all(map(is_new_part, parts)) and all(names == THUMBNAIL_SCHEMA.names for names in sheets)


def _upgrade_part(
    run: RunDirectory, lock: RunLock, samplers: SamplerNames, file: File
) -> bool | None:
    """Write a part anew, under the name that it has in our format, and its contact sheets.

    Returns:
        Whether its frame sampling is known; None where it was of our format.
    """
    old = read_table(file)
    if is_new_part(old.column_names):
        return None
    try:
        part = upgraded_part(old, samplers)
    except ValueError as error:
        raise cannot_read(str(file), error) from error
    name, sheets = part_name(part), run.thumbnails.file(file.name)
    if sheets.is_file():
        table = upgraded_table(read_table(sheets), THUMBNAIL_SCHEMA, samplers)
        write_part(run.thumbnails.file(name), table)
    write_part(run.parts.file(name), part)
    if name != file.name:
        lock.check()
        run.thumbnails.remove(file.name)  # first: found without its part, it would stay for ever
        run.parts.remove(file.name)
    return all(map(samplers.knows, set(old["sampler"].to_pylist())))


def _upgrade_table(file: File, schema: pa.Schema, samplers: SamplerNames) -> None:
    """Write a table anew, where it differs."""
    if column_names(file) != schema.names or _has_old_sampler(file, schema, samplers):
        groups = (upgraded_table(group, schema, samplers) for group in read_row_groups(file))
        write_batches(file, schema, groups)


def _has_old_sampler(file: File, schema: pa.Schema, samplers: SamplerNames) -> bool:
    if "sampler" not in schema.names:
        return False
    names = set(read_table(file, columns=["sampler"])["sampler"].to_pylist())
    return any(samplers.new_name(name) != name for name in names)


def _upgrade_means(file: File, samplers: SamplerNames) -> None:
    """Write the means anew, where they name another frame sampling."""
    schema = read_schema(file)
    told = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    new = samplers.new_name(told.get("sampler", ""))
    if new != told.get("sampler", ""):
        renamed = schema.with_metadata({**told, "sampler": new})
        write_batches(file, renamed, read_row_groups(file))
