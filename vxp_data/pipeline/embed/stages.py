"""The stages of an embedding job, and how files are decoded in it. They know no engine.

Rows are flat Arrow columns. Frames cross one border at most, as uint8 at the encoder's size; what
comes back to the driver is a few numbers a clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.frame_statistics import frame_statistics
from vxp_data.decoders.base import decodes_on_gpu
from vxp_data.encoders.beside import BESIDE_DIM, embed_beside, packed
from vxp_data.engines.base import EmbedStages
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.errors import MediaError
from vxp_data.images.contact_sheet import contact_sheet
from vxp_data.pipeline.embed.clip_tables import FRAMES_SCHEMA, TIMINGS
from vxp_data.pipeline.embed.encoder_stage import (
    EmbedClips,
    embed_all,
    job_encoder,
    store_all,
)
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.media.clips import ClipFrames, ClipReader, MediaItem, failed_clips
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FetchConfig, FramesConfig


def embed_stages(settings: JobSettings) -> EmbedStages:
    """Return what an engine runs over files."""
    alone = settings.spec.in_decode_task
    return EmbedStages(
        decode=partial(decode_and_embed_files if alone else decode_files, settings=settings),
        start_encoder=None if alone else partial(EmbedClips, settings),
        needs=encoder_needs(settings),
    )


def encoder_needs(settings: JobSettings) -> EncoderNeeds:
    """Return where the encoder runs, and what a clip takes on its way to it."""
    assert settings.encoder.device != "auto", "settle_device has not been called"
    frame_bytes = settings.spec.frame_px**2 * 3 + (BESIDE_DIM if settings.beside else 0)
    return EncoderNeeds(
        in_decode_task=settings.spec.in_decode_task,
        device=settings.encoder.device,
        clip_bytes=settings.frames.num_frames * frame_bytes + settings.sheet_bytes,
        decodes_on_gpu=decodes_on_gpu(settings.decode.decoder),
    )


def decode_files(files: pa.Table, attempt: Attempt, settings: JobSettings) -> Iterator[pa.Table]:
    """Return the frames of every clip of some files, one clip a table (FRAMES_SCHEMA)."""
    yield from _decode(files, attempt, settings)


def decode_and_embed_files(
    files: pa.Table, attempt: Attempt, settings: JobSettings
) -> Iterator[pa.Table]:
    """Decode and embed in one worker, for cheap encoders: frames never leave the process."""
    encoder = job_encoder(settings)
    clips = _decode(files, attempt, settings)
    if not attempt.again:
        clips = iter([pa.concat_tables(clips)])
    for some in clips:  # again, clip by clip: so the one at which it dies is known
        yield store_all(embed_all(some, encoder, settings), settings)


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


@cache
def _reader(
    frames: FramesConfig, decode: DecodeConfig, frame_px: int, fetch: FetchConfig
) -> ClipReader:
    """Keep one reader, and so one child process, for the life of a worker."""
    return ClipReader(frames, decode, frame_px, fetch)


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
        "encoder": "",  # who embeds it says
        "sampler": settings.sampler,
        "reason": clip.reason or "",
        "message": clip.message,
        "sheet": _sheet(frames, settings),
        **{name: getattr(clip, name) for name in TIMINGS},
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
