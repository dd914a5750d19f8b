"""Run formats 4, 5 and 6 by heart: what is called otherwise now, and what was not known then.

Facts that an old run does not have are unknown: '' and 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.conversation import conversation_json, turns_of_pairs
from vxp_data.media_markers import place_media
from vxp_data.pipeline.run_dir.embedding_column import embedding_matrix
from vxp_data.pipeline.run_dir.part_columns import MEAN, part_of
from vxp_data.pipeline.sampler_names import SamplerNames
from vxp_data.records import Modality
from vxp_data.schemas import BESIDE_COLUMNS, EMBEDDING_FACTS

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
_VECTORS: Final = ("embedding", *BESIDE_COLUMNS)


def is_new_part(names: list[str]) -> bool:
    """Whether a part of these columns is of our format."""
    return {*EMBEDDING_FACTS.names, MEAN, "embedding"} <= set(names)


def upgraded_part(part: pa.Table, samplers: SamplerNames) -> pa.Table:
    """Return an old part as our format has it.

    Raises:
        ValueError: vectors are not of as many frames as are told.
    """
    read = _matrix_of_lists if _is_of_format_4(part) else _matrix
    num_frames = pc.list_value_length(part["frame_index"]).to_pylist()
    embeddings = [
        read(value, num) if value.is_valid else None
        for value, num in zip(part["embedding"], num_frames, strict=True)
    ]
    facts = part.select([name for name in part.column_names if name not in _VECTORS])
    new = part_of(upgraded_table(facts, EMBEDDING_FACTS, samplers), embeddings)
    for name in BESIDE_COLUMNS:
        if name in part.column_names:
            new = new.append_column(name, part[name])
    return new


def upgraded_table(table: pa.Table, schema: pa.Schema, samplers: SamplerNames) -> pa.Table:
    """Rename a table's columns, and its clips' frame sampling; fill in what was not known."""
    table = table.rename_columns([_COLUMNS.get(name, name) for name in table.column_names])
    if "turns" in table.column_names and "clips" not in table.column_names:
        index = table.schema.get_field_index("turns")
        rows = zip(table["turns"].to_pylist(), table["modality"].to_pylist(), strict=True)
        turns = [_turns(text, modality) for text, modality in rows]
        table = table.set_column(index, "turns", pa.array(turns, pa.large_string()))
    if "sampler" in table.column_names:
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


def _matrix(value: pa.Scalar, num_frames: int) -> NDArray[np.float16]:
    return embedding_matrix(value, num_frames)


def _matrix_of_lists(value: pa.Scalar, num_frames: int) -> NDArray[np.float16]:
    """Return a clip's embeddings, float16 [F, D], of a list of fixed-size lists."""
    numbers: NDArray[np.float16] = value.values.flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(num_frames, -1)


def upgraded_record(record: Mapping[str, Any], samplers: SamplerNames) -> dict[str, Any]:
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
