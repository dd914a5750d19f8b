"""What lies beside the shards: `index.json`, and the columns of `samples.parquet`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vxp_data.conversation import MEDIA_TYPES, Role, Turn, conversation_from_json
from vxp_data.media_markers import num_markers
from vxp_data.shard_format import FORMAT_1, ProvenanceRecord, of_known_format
from vxp_data.shard_format_1 import clip_of_format_1
from vxp_data.strict_json import plain_fields, read_fields

SAMPLE_COLUMNS: Final[Mapping[str, str]] = {
    "shard": "int32",  # index in ShardIndex.shards
    "key": "string",
    "place": "int32",  # index in ClipRecord.rows
    "sample_id": "string",
    "task": "string",
    "json_offset": "int64",  # of the member's bytes in the tar
    "json_bytes": "int64",
    "payload_offset": "int64",
    "payload_bytes": "int64",  # 0 without payload; of several, to the end of the last one
    "num_frames": "int32",  # of the first stored plan, of all media
    "dataset": "string",
    "num_answers": "int32",  # turns that a model learns to say, blank ones not counted
    "text_bytes": "int64",  # of all turns, UTF-8
    "answer_bytes": "int64",  # of the assistant's turns
    "num_media": "int32",
    "num_markers": "int32",  # see media_markers.num_markers
}
"""Columns of samples.parquet, one row an annotation row, in the order of the shards: what a loader
needs to find any sample without reading a tar from its beginning, and what tells of each row's
words whether it can be trained on."""
_SINCE_2: Final = frozenset(
    {"dataset", "num_answers", "text_bytes", "answer_bytes", "num_media", "num_markers"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard in the index."""

    name: str
    kind: str
    num_clips: int
    num_samples: int
    num_frames: int
    """Planned frames of the first stored epoch, over all rows."""
    num_bytes: int
    decode_cost: float
    """What one epoch costs to decode, each row once: megapixels, see
    `core.shard_planning.decode_cost`."""
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """A Parquet file beside the shards."""

    name: str
    num_rows: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """`index.json`: written last; what it does not name does not exist."""

    format_version: int
    payload: str
    num_epochs: int
    """Epochs whose plans are stored in the shards, 1 or more."""
    sampling: str
    provenance: ProvenanceRecord
    samples: TableEntry
    quarantine: TableEntry
    quarantined_by_reason: dict[str, int]
    shards: list[ShardEntry]

    def to_json(self) -> bytes:
        """Write as indented JSON: the same index gives the same bytes."""
        text = json.dumps(self, default=plain_fields, ensure_ascii=False, indent=1)
        return f"{text}\n".encode()

    @classmethod
    def from_json(cls, data: bytes) -> ShardIndex:
        """Read what `to_json` wrote, or an index of format 1, which has the same fields.

        Raises:
            ValueError: it is not an index of these formats; the message names the field.
        """
        index: ShardIndex = read_fields(cls, of_known_format(data), "")
        return index


def sample_columns(format_version: int) -> dict[str, str]:
    """Return the columns of samples.parquet, and their types, in a format."""
    without = _SINCE_2 if format_version == FORMAT_1 else frozenset[str]()
    return {name: kind for name, kind in SAMPLE_COLUMNS.items() if name not in without}


def word_counts(turns: Sequence[Turn], *, num_media: int) -> dict[str, int]:
    """Return what samples.parquet says of a row's words and media.

    Args:
        turns: of the row.
        num_media: how many media it is about.
    """
    answers = [turn for turn in turns if turn.role is Role.ASSISTANT]
    return {
        "num_answers": sum(not turn.is_blank for turn in answers),
        "text_bytes": sum(len(turn.text.encode()) for turn in turns),
        "answer_bytes": sum(len(turn.text.encode()) for turn in answers),
        "num_media": num_media,
        "num_markers": num_markers(turns),
    }


def facts_of_format_1(data: bytes) -> list[dict[str, Any]]:
    """Return what samples.parquet of format 1 does not say of the rows of a record, in their order.

    Args:
        data: of the record, as JSON. No more of it is checked than what is needed.

    Raises:
        ValueError: it is no record of format 1, or a conversation in it is none.
    """
    try:
        record = clip_of_format_1(of_known_format(data))
        num_media = int(record["kind"] in MEDIA_TYPES)
        return [
            {
                "dataset": str(row["dataset"]),
                **word_counts(conversation_from_json(row["conversation"]), num_media=num_media),
            }
            for row in record["rows"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of format {FORMAT_1}: {error!r}") from error
