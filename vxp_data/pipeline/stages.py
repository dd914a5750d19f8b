"""The two callables that Ray runs, and the columns between them. Known without Ray, tested so.

Rows are flat Arrow columns. Frames cross one border at most, as uint8 at the encoder's size; what
comes back to the driver is a few numbers a clip.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.config import DecodeConfig, EncoderConfig, FetchConfig, FramesConfig
from vxp_data.encoders.base import Encoder, EncoderSpec
from vxp_data.pipeline.clips import ClipFrames, ClipReader, MediaItem
from vxp_data.pipeline.rundir import write_table
from vxp_data.registry import ENCODERS
from vxp_data.schemas import EMBEDDING_FACTS, embedding_schema
from vxp_data.storage.folder import Folder

ITEM_SCHEMA: Final = pa.schema(
    [
        ("uri", pa.string()),
        ("is_image", pa.bool_()),
        ("stamp", pa.string()),
        ("clip_start_s", pa.list_(pa.float64())),
        ("clip_end_s", pa.list_(pa.float64())),
    ]
)

_TIMINGS: Final = ("probe_cpu_s", "decode_cpu_s", "wall_s")
FRAMES_SCHEMA: Final = pa.schema(
    [*EMBEDDING_FACTS, ("frames", pa.large_binary()), *((name, pa.float64()) for name in _TIMINGS)]
)
"""One clip, from decoding to embedding; `frames` is uint8 [F, px, px, 3], null where it failed."""

REPORT_SCHEMA: Final = pa.schema(
    [
        ("uri", pa.string()),
        ("reason", pa.string()),
        ("duration_s", pa.float64()),
        ("bytes_fetched", pa.int64()),
        *((name, pa.float64()) for name in _TIMINGS),
        ("embed_cpu_s", pa.float64()),
    ]
)
"""What the driver hears of a clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """What the workers must know."""

    frames: FramesConfig
    decode: DecodeConfig
    fetch: FetchConfig
    encoder: EncoderConfig
    spec: EncoderSpec
    sampler: str
    """Fingerprint of the frame sampling."""
    parts: Folder
    """Folder for the embeddings parts."""


def item_table(items: list[MediaItem]) -> pa.Table:
    """Put work items into columns."""
    return pa.table(
        {
            "uri": [item.uri for item in items],
            "is_image": [item.is_image for item in items],
            "stamp": [item.stamp for item in items],
            "clip_start_s": [[start_s for start_s, _ in item.clips_s] for item in items],
            "clip_end_s": [[end_s for _, end_s in item.clips_s] for item in items],
        },
        schema=ITEM_SCHEMA,
    )


def decode_files(items: pa.Table, settings: JobSettings) -> Iterator[pa.Table]:
    """Give the frames of every clip of some files, one clip a table (FRAMES_SCHEMA)."""
    reader = _reader(settings.frames, settings.decode, settings.spec.frame_px, settings.fetch)
    for row in items.to_pylist():
        clips_s = tuple(zip(row["clip_start_s"], row["clip_end_s"], strict=True))
        item = MediaItem(
            uri=row["uri"], is_image=row["is_image"], stamp=row["stamp"], clips_s=clips_s
        )
        for clip in reader.read(item):
            yield _frames_table(clip, settings)


def decode_and_embed_files(items: pa.Table, settings: JobSettings) -> Iterator[pa.Table]:
    """Do both in one worker, for encoders that are cheap: frames never leave the process."""
    encoder = _encoder(settings.encoder)
    yield embed_clips(pa.concat_tables(decode_files(items, settings)), encoder, settings)


class EmbedActor:
    """Holds one encoder and embeds clip after clip."""

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._encoder = _encoder(settings.encoder)

    def __call__(self, clips: pa.Table) -> pa.Table:
        """Embed clips (FRAMES_SCHEMA), write them as a part; report to the driver."""
        return embed_clips(clips, self._encoder, self._settings)


def embed_clips(clips: pa.Table, encoder: Encoder, settings: JobSettings) -> pa.Table:
    """Embed the frames of some clips in one go, write one part, give one report row a clip."""
    started_s = time.process_time()
    frames = [_frames_of(value, settings.spec.frame_px) for value in clips["frames"]]
    there = [f for f in frames if f is not None]
    vectors: Iterator[NDArray[np.float16]] = iter(())
    if there:
        emb_FD = encoder.embed(np.concatenate(there)).astype(np.float16)
        vectors = iter(np.split(emb_FD, np.cumsum([len(f) for f in there])[:-1]))
    embeddings = [None if f is None else next(vectors) for f in frames]
    facts = clips.select(EMBEDDING_FACTS.names).replace_schema_metadata(None)
    column = _embedding_column(embeddings, settings.spec.dim)
    part = facts.append_column("embedding", column).cast(embedding_schema(settings.spec.dim))
    write_table(settings.parts.file(_part_name(part)), part)
    embed_cpu_s = (time.process_time() - started_s) / max(1, len(clips))
    report = clips.select([name for name in REPORT_SCHEMA.names if name != "embed_cpu_s"])
    column = pa.array([embed_cpu_s] * len(clips), pa.float64())
    return report.append_column("embed_cpu_s", column).cast(REPORT_SCHEMA)


@cache
def _reader(
    frames: FramesConfig, decode: DecodeConfig, frame_px: int, fetch: FetchConfig
) -> ClipReader:
    """Keep one reader, and so one child process, for the life of a worker."""
    return ClipReader(frames, decode, frame_px, fetch)


@cache
def _encoder(settings: EncoderConfig) -> Encoder:
    encoder: Encoder = ENCODERS.load(settings.name).load(settings)
    return encoder


def _frames_table(clip: ClipFrames, settings: JobSettings) -> pa.Table:
    frames = clip.frames_FHWC
    row: dict[str, Any] = {
        **asdict(clip.media),
        "clip_start_s": clip.clip_start_s,
        "clip_end_s": clip.clip_end_s,
        "file_stamp": clip.file_stamp,
        "bytes_fetched": clip.bytes_fetched,
        "timeline": clip.timeline,
        "frame_index": clip.frame_index_F,
        "time_s": clip.time_s_F,
        "frames_expected": len(clip.frame_index_F),
        "frames_exact": clip.frames_exact,
        "decoder": clip.decoder,
        "decoder_note": clip.decoder_note,
        "encoder": settings.spec.fingerprint,
        "sampler": settings.sampler,
        "reason": clip.reason or "",
        "message": clip.message,
        **{name: getattr(clip, name) for name in _TIMINGS},
    }
    columns = {name: [value] for name, value in row.items()} | {"frames": _one_binary(frames)}
    return pa.table({name: columns[name] for name in FRAMES_SCHEMA.names}, schema=FRAMES_SCHEMA)


def _one_binary(frames: NDArray[np.uint8] | None) -> pa.Array:
    """Put pixels into a column of one row, without a copy."""
    if frames is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.py_buffer(np.array([0, frames.nbytes], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(frames)])


def _frames_of(value: Any, frame_px: int) -> NDArray[np.uint8] | None:
    if not value.is_valid:
        return None
    flat: NDArray[np.uint8] = np.frombuffer(value.as_buffer(), dtype=np.uint8)
    return flat.reshape(-1, frame_px, frame_px, 3)


def _embedding_column(embeddings: list[NDArray[np.float16] | None], dim: int) -> pa.Array:
    """Build a list<fixed_size_list<float16>[dim]> column, null where there is no embedding."""
    there = [emb for emb in embeddings if emb is not None]
    flat = np.concatenate(there).reshape(-1) if there else np.zeros(0, dtype=np.float16)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), dim)
    lengths = [0 if emb is None else len(emb) for emb in embeddings]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = pa.array([emb is None for emb in embeddings])
    return pa.ListArray.from_arrays(pa.array(offsets), rows, mask=mask)


def _part_name(part: pa.Table) -> str:
    """Name a part by the clips in it and how they were made: written again, it is the same file."""
    digest = hashlib.sha256()
    keys = part.select(["uri", "clip_start_s", "clip_end_s", "file_stamp", "encoder", "sampler"])
    for row in keys.to_pylist():
        end_s = "end" if math.isinf(row["clip_end_s"]) else repr(row["clip_end_s"])
        digest.update("\0".join((*map(str, row.values()), end_s)).encode())
    return f"part-{digest.hexdigest()[:24]}.parquet"
