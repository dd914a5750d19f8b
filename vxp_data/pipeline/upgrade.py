"""`vxp-data upgrade`: a run of format 4 or 5 becomes one of ours; no video is read.

Format 5 had conversations as pairs, one medium a row, and fewer facts about files. Format 4 had
also embeddings as lists of lists, other names for some columns and settings, and its own number
among what names the frame sampling. Every file is written anew, beside what it replaces, and
run.json last. So whatever stops it, the run stays an old one to all other commands, nothing is
lost, and the same command goes on. Knows these formats by heart: nothing else does any more.

Facts that an old run does not have are unknown: '' and 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.conversation import conversation_json, turns_of_pairs
from vxp_data.core.frame_sampling import Seek
from vxp_data.encoders.base import fingerprint
from vxp_data.errors import UserError
from vxp_data.media_markers import place_media
from vxp_data.pipeline.prune import sampler_fingerprint
from vxp_data.pipeline.run_dir.directory import (
    RunDirectory,
    column_names,
    open_run,
    read_row_groups,
    read_table,
    write_batches,
)
from vxp_data.pipeline.run_dir.embedding_column import embedding_column, part_name
from vxp_data.pipeline.run_dir.lock import RunLock, run_lock
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.pipeline.run_dir.read_ahead import each_file
from vxp_data.records import Modality
from vxp_data.registry import DECODERS, FRAME_SAMPLERS
from vxp_data.schemas import (
    DUPLICATE_SCHEMA,
    EMBEDDING_BESIDE_SCHEMA,
    EMBEDDING_FACTS,
    EMBEDDING_SCHEMA,
    RUN_FORMAT_VERSION,
    SAMPLE_SCHEMA,
    THUMBNAIL_SCHEMA,
    UPGRADED_FORMAT_VERSIONS,
)
from vxp_data.settings.prune import DecodeConfig, FramesConfig, PruneConfig
from vxp_data.storage.folder import File

_COLUMNS: Final[Mapping[str, str]] = {
    "exchanges": "turns",
    "file_stamp": "file_version",
    "keeper_uri": "representative_uri",
    "keeper_clip_start_s": "representative_clip_start_s",
    "keeper_clip_end_s": "representative_clip_end_s",
    "keeper_media_id": "representative_media_id",
}
_SETTINGS: Final[Mapping[tuple[str, str], str]] = {
    ("shard", "picture_format"): "image_format",
    ("costs", "tokens_per_picture"): "tokens_per_image",
}
"""By section and name."""
_UNKNOWN: Final[Mapping[str, Any]] = {
    "clips": [],
    "gradual_refresh": False,
    "time_note": "",
    "stream_index": 0,
    "num_video_streams": 0,
    "has_crop": False,
    "found_by": "",
}
"""Columns that old runs lack."""
_SELECTION_VERSION: Final = 1
"""By which frames were selected then."""
_MOST_FRAMES: Final = 1000
"""Most frames a clip that format 4 allowed."""


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
    """Convert a run of format 4 or 5, finished or stopped, to ours; one of ours is left as it is.

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
    samplers = _Samplers(record)
    parts = run.part_files()
    done = list(each_file(partial(_upgrade_part, run, lock, samplers), parts))
    named = {file.name for file in run.part_files()}
    for file in run.thumbnail_files():
        if file.name not in named:  # their clips were not embedded before the run was stopped
            _upgrade_table(file, THUMBNAIL_SCHEMA, samplers)
    for file, schema in _tables(run):
        _upgrade_table(file, schema, samplers)
    lock.check()
    if record is not None:
        run.write_run(_upgraded_record(record, samplers))
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
    return all(map(_is_our_part, parts)) and all(
        names == THUMBNAIL_SCHEMA.names for names in sheets
    )


def _is_our_part(names: list[str]) -> bool:
    return names in (EMBEDDING_SCHEMA.names, EMBEDDING_BESIDE_SCHEMA.names)


def _upgrade_part(run: RunDirectory, lock: RunLock, samplers: _Samplers, file: File) -> bool | None:
    """Write a part anew, under the name that it has in our format, and its contact sheets.

    Returns:
        Whether its frame sampling is known; None where it was of our format.
    """
    part = read_table(file)
    if _is_our_part(part.column_names):
        return None
    is_known, column = True, part["embedding"]
    if _is_of_format_4(part):
        is_known = all(map(samplers.knows, set(part["sampler"].to_pylist())))
        column = embedding_column([_matrix(value) for value in part["embedding"]])
    facts = _renamed(part.drop_columns("embedding"), EMBEDDING_FACTS, samplers)
    part = facts.append_column("embedding", column).cast(EMBEDDING_SCHEMA)
    name, sheets = part_name(part), run.thumbnails.file(file.name)
    if sheets.is_file():
        table = _renamed(read_table(sheets), THUMBNAIL_SCHEMA, samplers)
        write_part(run.thumbnails.file(name), table)
    write_part(run.parts.file(name), part)
    if name != file.name:
        lock.check()
        run.thumbnails.remove(file.name)  # first: found without its part, it would stay for ever
        run.parts.remove(file.name)
    return is_known


def _upgrade_table(file: File, schema: pa.Schema, samplers: _Samplers) -> None:
    if column_names(file) != schema.names:
        groups = (_renamed(group, schema, samplers) for group in read_row_groups(file))
        write_batches(file, schema, groups)


def _renamed(table: pa.Table, schema: pa.Schema, samplers: _Samplers) -> pa.Table:
    """Rename a table's columns, and its clips' frame sampling; fill in what was not known."""
    is_of_format_4 = _is_of_format_4(table)
    table = table.rename_columns([_COLUMNS.get(name, name) for name in table.column_names])
    if "turns" in table.column_names:
        index = table.schema.get_field_index("turns")
        rows = zip(table["turns"].to_pylist(), table["modality"].to_pylist(), strict=True)
        turns = [_turns(text, modality) for text, modality in rows]
        table = table.set_column(index, "turns", pa.array(turns, pa.large_string()))
    if is_of_format_4 and "sampler" in table.column_names:
        index = table.schema.get_field_index("sampler")
        new = {name: samplers.new_name(name) for name in set(table["sampler"].to_pylist())}
        names = [new[name] for name in table["sampler"].to_pylist()]
        table = table.set_column(index, "sampler", pa.array(names, pa.string()))
    for name in set(schema.names) - set(table.column_names):
        column = pa.array([_UNKNOWN[name]] * len(table), schema.field(name).type)
        table = table.append_column(name, column)
    return table.select(schema.names).cast(schema)


def _is_of_format_4(table: pa.Table) -> bool:
    return bool(set(table.column_names) & set(_COLUMNS))


def _turns(text: str, modality: str) -> str:
    """Write a conversation of question and answer pairs as ours are, its medium at its place."""
    kinds = [] if modality == Modality.TEXT else [modality]
    return conversation_json(place_media(turns_of_pairs(json.loads(text)), kinds))


def _matrix(value: pa.Scalar) -> NDArray[np.float16] | None:
    """Return a clip's embeddings, float16 [F, D], of a list of fixed-size lists."""
    if not value.is_valid:
        return None
    numbers: NDArray[np.float16] = value.values.flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(len(value.values), -1)


class _Samplers:
    """Tells what names a frame sampling now by what named it in format 4.

    A digest does not tell of what it was made. So all settings that there may have been are tried:
    a stopped run has none on record, and parts may be of earlier settings.

    Args:
        record: run.json, where the run has ended.
    """

    def __init__(self, record: Mapping[str, Any] | None) -> None:
        kinds = product(FRAME_SAMPLERS.names(), range(1, _MOST_FRAMES + 1), get_args(Seek))
        frames = [{"sampler": name, "num_frames": n, "seek": seek} for name, n, seek in kinds]
        settings: list[tuple[dict[str, Any], str]] = list(product(frames, DECODERS.names()))
        if record is not None:  # with plug-ins, perhaps, that are not installed here
            config = record["config"]
            settings.append((config["frames"], config["decode"]["decoder"]))
        self._settings = {_old_name(*one): one for one in settings}

    def knows(self, name: str) -> bool:
        """Whether any settings give a frame sampling of this name in format 4."""
        return name in self._settings

    def new_name(self, name: str) -> str:
        """Return what names it now; the same, where no settings give it."""
        if name not in self._settings:
            return name
        frames, decoder = self._settings[name]
        return sampler_fingerprint(
            PruneConfig.model_construct(
                frames=FramesConfig.model_construct(**frames),
                decode=DecodeConfig.model_construct(decoder=decoder),
            ),
            selection_version=_SELECTION_VERSION,
        )


def _old_name(frames: Mapping[str, Any], decoder: str) -> str:
    return fingerprint({"frames": frames, "decoder": decoder, "run_format": 4})


def _upgraded_record(record: Mapping[str, Any], samplers: _Samplers) -> dict[str, Any]:
    """Return run.json as our format has it."""
    config = {
        section: {_SETTINGS.get((section, name), name): value for name, value in values.items()}
        if isinstance(values, dict)
        else values
        for section, values in record["config"].items()
    }
    origins = {_new_key(key): origin for key, origin in record.get("config_origin", {}).items()}
    sampler = samplers.new_name(record["sampler"])
    changed = {"config": config, "config_origin": origins, "sampler": sampler}
    return {
        name: changed.get(name, value) for name, value in record.items() if name != "format_version"
    }


def _new_key(key: str) -> str:
    """Return the dotted key of a setting in our format."""
    section, _, name = key.partition(".")
    return f"{section}.{_SETTINGS[section, name]}" if (section, name) in _SETTINGS else key
