"""The stage that embeds: clips with their frames in, parts written, reports out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.encoders.base import Encoder, require_spec
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.errors import MediaError
from vxp_data.pipeline.embed.clip_tables import REPORT_SCHEMA
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stored_clips import store_clips
from vxp_data.records import Reason
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import EncoderConfig


class EmbedClips:
    """Holds one encoder, and embeds clips after clips.

    Raises:
        UserError: the encoder cannot be loaded here, or is another here than the job's.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._encoder = job_encoder(settings)

    def __call__(self, clips: pa.Table, attempt: Attempt) -> pa.Table:
        """Embed clips (FRAMES_SCHEMA), write them as parts; return their reports."""
        if not attempt.again:
            return embed_all(clips, self._encoder, self._settings)
        keys = zip(clips["uri"].to_pylist(), clips["clip_start_s"].to_pylist(), strict=True)
        reports = []
        for i, (uri, start_s) in enumerate(keys):
            clip = clips.slice(i, 1)
            try:
                attempt.enter(f"{uri} from {start_s} s")
            except MediaError as error:
                clip = _without_frames(clip, error)
            reports.append(embed_alone(clip, self._encoder, self._settings))
        attempt.leave()
        return pa.concat_tables(reports)


def embed_all(clips: pa.Table, encoder: Encoder, settings: JobSettings) -> pa.Table:
    """Embed clips in one go, or one by one where memory does not suffice for that."""
    try:
        return embed_clips(clips, encoder, settings)
    except MemoryError:
        alone = (clips.slice(i, 1) for i in range(len(clips)))
        return pa.concat_tables([embed_alone(clip, encoder, settings) for clip in alone])


def embed_alone(clip: pa.Table, encoder: Encoder, settings: JobSettings) -> pa.Table:
    """Embed one clip; for lack of memory it has failed."""
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
    """Embed the frames of some clips in one go, write one part, return one report row a clip.

    The part carries the fingerprint of the encoder that made it.
    """
    started_s = time.process_time()
    index = clips.schema.get_field_index("encoder")
    made_by = pa.array([encoder.spec.fingerprint] * len(clips), pa.string())
    clips = clips.set_column(index, clips.schema.field(index), made_by)
    stored = store_clips(clips, embeddings_of(clips, encoder, settings), settings)
    embed_cpu_s = (time.process_time() - started_s) / max(1, len(clips))
    column = pa.array([embed_cpu_s] * len(clips), pa.float64())
    return stored.append_column("embed_cpu_s", column).cast(REPORT_SCHEMA)


def embeddings_of(
    clips: pa.Table, encoder: Encoder, settings: JobSettings
) -> list[NDArray[np.float16] | None]:
    """Embed the frames of some clips in one go: float16 [F, D] of each; None for failed ones."""
    frames = [_frames_of(value, settings.spec.frame_px) for value in clips["frames"]]
    there = [f for f in frames if f is not None]
    vectors: Iterator[NDArray[np.float16]] = iter(())
    if there:
        emb_FD = encoder.embed(np.concatenate(there)).astype(np.float16)
        vectors = iter(np.split(emb_FD, np.cumsum([len(f) for f in there])[:-1]))
    return [None if f is None else next(vectors) for f in frames]


def job_encoder(settings: JobSettings) -> Encoder:
    """Return this process's encoder, if it is the job's.

    Raises:
        UserError: it cannot be loaded here; or it is another here.
    """
    encoder = _loaded_encoder(settings.encoder)
    require_spec(encoder.spec, settings.spec)
    return encoder


@cache
def _loaded_encoder(settings: EncoderConfig) -> Encoder:
    """Keep one encoder for the life of a worker."""
    encoder: Encoder = ENCODERS.load(settings.name).load(settings)
    return encoder


def _frames_of(value: Any, frame_px: int) -> NDArray[np.uint8] | None:
    if not value.is_valid:
        return None
    flat: NDArray[np.uint8] = np.frombuffer(value.as_buffer(), dtype=np.uint8)
    return flat.reshape(-1, frame_px, frame_px, 3)
