"""The stages of an embedding job, and the columns between them. They know no engine.

Rows are flat Arrow columns. Frames cross one border at most, as uint8 at the encoder's size; what
comes back to the driver is a few numbers a clip.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.frame_statistics import frame_statistics
from vxp_data.encoders.base import Encoder, EncoderSpec
from vxp_data.encoders.beside import BESIDE_DIM, beside_fingerprint, embed_beside, packed
from vxp_data.engines.base import EmbedStages
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.files import FILE_SCHEMA
from vxp_data.engines.stage_plan import Device, EncoderNeeds
from vxp_data.errors import MediaError
from vxp_data.images.contact_sheet import contact_sheet
from vxp_data.pipeline.media.clips import ClipFrames, ClipReader, MediaItem, failed_clips
from vxp_data.pipeline.run_dir.directory import write_part
from vxp_data.pipeline.run_dir.embedding_column import embedding_column, part_name
from vxp_data.records import Reason
from vxp_data.registry import ENCODERS
from vxp_data.schemas import (
    EMBEDDING_BESIDE_SCHEMA,
    EMBEDDING_FACTS,
    EMBEDDING_SCHEMA,
    THUMBNAIL_SCHEMA,
)
from vxp_data.settings.prune import DecodeConfig, EncoderConfig, FetchConfig, FramesConfig
from vxp_data.storage.folder import Folder

_TIMINGS: Final = ("probe_cpu_s", "decode_cpu_s", "wall_s")
FRAMES_SCHEMA: Final = pa.schema(
    [
        ("clip", pa.int64()),
        *EMBEDDING_FACTS,
        ("frames", pa.large_binary()),
        ("sheet", pa.binary()),
        ("beside", pa.large_binary()),
        *((name, pa.float64()) for name in _TIMINGS),
    ]
)
"""One clip, from decoding to embedding; `frames` is uint8 [F, px, px, 3], null where it failed;
`sheet` is its contact sheet and `beside` are `thumbnail`'s vectors, where there are any: made where
it was decoded, since an encoder's GPU should not wait for them."""

REPORT_SCHEMA: Final = pa.schema(
    [
        ("clip", pa.int64()),
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
    thumbnails: Folder | None = None
    """Folder for contact sheets; None: none are kept."""
    sheet_bytes: int = 0
    """Most bytes of a contact sheet."""
    beside: bool = False
    """Whether `thumbnail`'s vectors of the frames of videos are kept beside the encoder's."""


def embed_stages(settings: JobSettings, device: Device) -> EmbedStages:
    """Return what an engine runs over files; `device` is the encoder's."""
    alone = settings.spec.in_decode_task
    return EmbedStages(
        decode=partial(decode_and_embed_files if alone else decode_files, settings=settings),
        start_encoder=None if alone else partial(EmbedClips, settings),
        needs=encoder_needs(settings, device),
    )


def encoder_needs(settings: JobSettings, device: Device) -> EncoderNeeds:
    """Return where the encoder can run, and what a clip takes on its way to it."""
    frame_bytes = settings.spec.frame_px**2 * 3 + (BESIDE_DIM if settings.beside else 0)
    return EncoderNeeds(
        in_decode_task=settings.spec.in_decode_task,
        device=device,
        clip_bytes=settings.frames.num_frames * frame_bytes + settings.sheet_bytes,
    )


def file_table(items: Sequence[MediaItem]) -> pa.Table:
    """Convert work items to columns (FILE_SCHEMA); their clips are numbered from 0."""
    first = np.cumsum([0, *(len(item.clips_s) for item in items)]).tolist()
    return pa.table(
        {
            "uri": [item.uri for item in items],
            "is_image": [item.is_image for item in items],
            "file_version": [item.file_version for item in items],
            "num_bytes": [item.num_bytes for item in items],
            "clip": [range(start, stop) for start, stop in pairwise(first)],
            "clip_start_s": [[start_s for start_s, _ in item.clips_s] for item in items],
            "clip_end_s": [[end_s for _, end_s in item.clips_s] for item in items],
        },
        schema=FILE_SCHEMA,
    )


def decode_files(files: pa.Table, attempt: Attempt, settings: JobSettings) -> Iterator[pa.Table]:
    """Return the frames of every clip of some files, one clip a table (FRAMES_SCHEMA)."""
    yield from _decode(files, attempt, settings)


def decode_and_embed_files(
    files: pa.Table, attempt: Attempt, settings: JobSettings
) -> Iterator[pa.Table]:
    """Decode and embed in one worker, for cheap encoders: frames never leave the process."""
    encoder = _encoder(settings.encoder)
    clips = _decode(files, attempt, settings)
    if attempt.again:  # clip by clip, so that the one at which it dies again is known
        yield from (_embed_alone(clip, encoder, settings) for clip in clips)
    else:
        yield _embed_all(pa.concat_tables(clips), encoder, settings)


class EmbedClips:
    """Holds one encoder, and embeds clips after clips.

    Raises:
        UserError: the encoder cannot be loaded here.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._encoder = _encoder(settings.encoder)

    def __call__(self, clips: pa.Table, attempt: Attempt) -> pa.Table:
        """Embed clips (FRAMES_SCHEMA), write them as parts; return their reports."""
        if not attempt.again:
            return _embed_all(clips, self._encoder, self._settings)
        keys = zip(clips["uri"].to_pylist(), clips["clip_start_s"].to_pylist(), strict=True)
        reports = []
        for i, (uri, start_s) in enumerate(keys):
            clip = clips.slice(i, 1)
            try:
                attempt.enter(f"{uri} from {start_s} s")
            except MediaError as error:
                clip = _without_frames(clip, error)
            reports.append(_embed_alone(clip, self._encoder, self._settings))
        attempt.leave()
        return pa.concat_tables(reports)


def _decode(files: pa.Table, attempt: Attempt, settings: JobSettings) -> Iterator[pa.Table]:
    """Read file after file; what one did to earlier workers, or to this one's memory, is a value.

    A file is to blame until the next one is asked for: for what is done with its frames, too.
    """
    reader = _reader(settings.frames, settings.decode, settings.spec.frame_px, settings.fetch)
    for row in files.to_pylist():
        clips_s = tuple(zip(row["clip_start_s"], row["clip_end_s"], strict=True))
        item = MediaItem(
            uri=row["uri"],
            is_image=row["is_image"],
            file_version=row["file_version"],
            clips_s=clips_s,
        )
        num_read = 0
        try:
            attempt.enter(item.uri)
            for clip in reader.read(item):
                beside = settings.beside and not item.is_image
                yield _frames_table(row["clip"][num_read], clip, settings, beside=beside)
                num_read += 1
            continue
        except MediaError as error:
            failure = error
        except MemoryError:
            failure = MediaError(Reason.OUT_OF_MEMORY, "the worker has no memory for its frames")
        failed = zip(row["clip"], failed_clips(item, failure), strict=True)
        for number, clip in list(failed)[num_read:]:
            yield _frames_table(number, clip, settings)
    attempt.leave()


def _embed_all(clips: pa.Table, encoder: Encoder, settings: JobSettings) -> pa.Table:
    """Embed clips in one go, or one by one where memory does not suffice for that."""
    try:
        return embed_clips(clips, encoder, settings)
    except MemoryError:
        alone = (clips.slice(i, 1) for i in range(len(clips)))
        return pa.concat_tables([_embed_alone(clip, encoder, settings) for clip in alone])


def _embed_alone(clip: pa.Table, encoder: Encoder, settings: JobSettings) -> pa.Table:
    try:
        return embed_clips(clip, encoder, settings)
    except MemoryError:
        failure = MediaError(Reason.OUT_OF_MEMORY, "the worker has no memory to embed its frames")
    return embed_clips(_without_frames(clip, failure), encoder, settings)


def _without_frames(clip: pa.Table, failure: MediaError) -> pa.Table:
    """Build the failed clip of one whose frames cannot be used."""
    values: dict[str, str | None] = {"reason": failure.reason, "message": failure.message}
    values |= dict.fromkeys(("frames", "sheet", "beside"))
    for name, value in values.items():
        index = clip.schema.get_field_index(name)
        column = pa.array([value], clip.schema.field(index).type)
        clip = clip.set_column(index, clip.schema.field(index), column)
    return clip


def embed_clips(clips: pa.Table, encoder: Encoder, settings: JobSettings) -> pa.Table:
    """Embed the frames of some clips in one go, write one part, return one report row a clip."""
    started_s = time.process_time()
    frames = [_frames_of(value, settings.spec.frame_px) for value in clips["frames"]]
    there = [f for f in frames if f is not None]
    vectors: Iterator[NDArray[np.float16]] = iter(())
    if there:
        emb_FD = encoder.embed(np.concatenate(there)).astype(np.float16)
        vectors = iter(np.split(emb_FD, np.cumsum([len(f) for f in there])[:-1]))
    embeddings = [None if f is None else next(vectors) for f in frames]
    facts = clips.select(EMBEDDING_FACTS.names).replace_schema_metadata(None)
    part = facts.append_column("embedding", embedding_column(embeddings)).cast(EMBEDDING_SCHEMA)
    if settings.beside:
        made_by = [beside_fingerprint() if value.is_valid else "" for value in clips["beside"]]
        part = part.append_column("beside", clips["beside"])
        part = part.append_column("beside_encoder", pa.array(made_by, pa.string()))
        part = part.cast(EMBEDDING_BESIDE_SCHEMA)
    name = part_name(part)
    if settings.thumbnails is not None:  # first: clips with embeddings are never read again
        write_part(settings.thumbnails.file(name), clips.select(THUMBNAIL_SCHEMA.names))
    write_part(settings.parts.file(name), part)
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


def _frames_table(
    number: int, clip: ClipFrames, settings: JobSettings, *, beside: bool = False
) -> pa.Table:
    frames = clip.frames_FHWC
    vectors = embed_beside(frames) if beside and frames is not None else None
    statistics = None if frames is None else frame_statistics(frames)
    row: dict[str, Any] = {
        "clip": number,
        **asdict(clip.media),
        "clip_start_s": clip.clip_start_s,
        "clip_end_s": clip.clip_end_s,
        "file_version": clip.file_version,
        "bytes_fetched": clip.bytes_fetched,
        "timeline": clip.timeline,
        "frame_index": clip.frame_index_F,
        "time_s": clip.time_s_F,
        "frames_expected": len(clip.frame_index_F),
        "frames_exact": clip.frames_exact,
        "content_change": None if statistics is None else statistics.change_P,
        "contrast": None if statistics is None else statistics.contrast_F,
        "decoder": clip.decoder,
        "decoder_note": clip.decoder_note,
        "encoder": settings.spec.fingerprint,
        "sampler": settings.sampler,
        "reason": clip.reason or "",
        "message": clip.message,
        "sheet": _sheet(frames, settings),
        **{name: getattr(clip, name) for name in _TIMINGS},
    }
    columns = {name: [value] for name, value in row.items()} | {
        "frames": _one_binary(frames),
        "beside": [None if vectors is None else packed(vectors).tobytes()],
    }
    return pa.table({name: columns[name] for name in FRAMES_SCHEMA.names}, schema=FRAMES_SCHEMA)


def _sheet(frames: NDArray[np.uint8] | None, settings: JobSettings) -> bytes | None:
    if frames is None or settings.thumbnails is None:
        return None
    return contact_sheet(frames, max_bytes=settings.sheet_bytes)


def _one_binary(frames: NDArray[np.uint8] | None) -> pa.Array:
    """Wrap pixels in a column of one row, without a copy."""
    if frames is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.py_buffer(np.array([0, frames.nbytes], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(frames)])


def _frames_of(value: Any, frame_px: int) -> NDArray[np.uint8] | None:
    if not value.is_valid:
        return None
    flat: NDArray[np.uint8] = np.frombuffer(value.as_buffer(), dtype=np.uint8)
    return flat.reshape(-1, frame_px, frame_px, 3)
