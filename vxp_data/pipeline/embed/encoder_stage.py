"""The stage that embeds: clips with their frames in, parts written, reports out.

It has two halves, so that an engine can write one batch while the next is embedded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.encoders.base import Encoder, require_spec
from vxp_data.engines.base import Store
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.errors import MediaError
from vxp_data.pipeline.embed.clip_tables import ENCODER_TIMINGS, REPORT_SCHEMA
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stored_clips import store_clips
from vxp_data.records import Reason
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import EncoderConfig

_NO_MEMORY: Final = MediaError(Reason.OUT_OF_MEMORY, "the worker has no memory to embed its frames")


class EmbedClips:
    """Holds one encoder, and embeds clips after clips.

    Raises:
        UserError: the encoder cannot be loaded here, or is another here than the job's.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._settings = settings
        self._encoder = job_encoder(settings)
        self._free_since_s = time.monotonic()

    def __call__(self, clips: pa.Table, attempt: Attempt) -> Store:
        """Embed clips (FRAMES_SCHEMA); return what writes them as parts and gives their reports.

        What killed its workers before is embedded and written clip by clip, at once.
        """
        if not attempt.again:
            waited_s = time.monotonic() - self._free_since_s
            embedded = embed_all(clips, self._encoder, self._settings)
            self._free_since_s = time.monotonic()
            return partial(store_all, embedded, self._settings, waited_s)
        keys = zip(clips["uri"].to_pylist(), clips["clip_start_s"].to_pylist(), strict=True)
        reports = []
        for i, (uri, start_s) in enumerate(keys):
            clip = clips.slice(i, 1)
            try:
                attempt.enter(f"{uri} from {start_s} s")
            except MediaError as error:
                clip = _without_frames(clip, error)
            embedded = embed_all(clip, self._encoder, self._settings)
            reports.append(store_all(embedded, self._settings))
        attempt.leave()
        return partial(pa.concat_tables, reports)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedClips:
    """Clips (FRAMES_SCHEMA) that are embedded and not yet stored."""

    clips: pa.Table
    embeddings: Sequence[NDArray[np.float16] | None]
    """float16 [F, D] of each; None for one that failed."""
    cpu_s: float
    """What that took of the thread that did it."""
    wall_s: float


def embed_all(clips: pa.Table, encoder: Encoder, settings: JobSettings) -> list[EmbeddedClips]:
    """Embed clips in one go, or one by one where memory does not suffice for that.

    One that does not fit into memory alone has failed.
    """
    try:
        return [_embed(clips, encoder, settings)]
    except MemoryError:
        pass  # outside, nothing holds what the attempt held
    if len(clips) > 1:
        alone = (clips.slice(i, 1) for i in range(len(clips)))
        return [one for clip in alone for one in embed_all(clip, encoder, settings)]
    return [_embed(_without_frames(clips, _NO_MEMORY), encoder, settings)]


def store_all(
    embedded: Sequence[EmbeddedClips], settings: JobSettings, waited_s: float = 0.0
) -> pa.Table:
    """Write parts of clips; return a report a clip (REPORT_SCHEMA), each column in one piece.

    Args:
        embedded: 1 or more times 1 or more clips.
        settings: where to.
        waited_s: how long their encoder had nothing to do before.
    """
    reports = pa.concat_tables([_store(some, settings) for some in embedded])
    index = reports.schema.get_field_index("embed_wait_s")
    waited = pa.array([waited_s / max(1, len(reports))] * len(reports), pa.float64())
    return reports.set_column(index, "embed_wait_s", waited).combine_chunks()


def _embed(clips: pa.Table, encoder: Encoder, settings: JobSettings) -> EmbeddedClips:
    """Embed clips in one go; they carry the fingerprint of the encoder that did it."""
    started_s, began_s = time.thread_time(), time.monotonic()
    index = clips.schema.get_field_index("encoder")
    made_by = pa.array([encoder.spec.fingerprint] * len(clips), pa.string())
    clips = clips.set_column(index, clips.schema.field(index), made_by)
    embeddings = embeddings_of(clips, encoder, settings)
    return EmbeddedClips(
        clips=clips,
        embeddings=embeddings,
        cpu_s=time.thread_time() - started_s,
        wall_s=time.monotonic() - began_s,
    )


def _store(some: EmbeddedClips, settings: JobSettings) -> pa.Table:
    """Write a part, or one for each clip where memory does not suffice for that."""
    clips, embeddings = some.clips, some.embeddings
    started_s, began_s = time.thread_time(), time.monotonic()
    try:
        stored = store_clips(clips, embeddings, settings)
    except MemoryError:
        cpu_s, wall_s = some.cpu_s / len(clips), some.wall_s / len(clips)
        if len(clips) > 1:
            alone = (
                EmbeddedClips(
                    clips=clips.slice(i, 1), embeddings=[embedding], cpu_s=cpu_s, wall_s=wall_s
                )
                for i, embedding in enumerate(embeddings)
            )
            return store_all(list(alone), settings)
        stored = store_clips(_without_frames(clips, _NO_MEMORY), [None], settings)
        embeddings = [None]
    write_cpu_s = time.thread_time() - started_s
    took_s = {
        "embed_cpu_s": some.cpu_s + write_cpu_s,
        "embed_wall_s": some.wall_s,
        "embed_wait_s": 0.0,
        "write_cpu_s": write_cpu_s,
        "write_wall_s": time.monotonic() - began_s,
    }
    num_embedded = [0 if embedding is None else len(embedding) for embedding in embeddings]
    stored = stored.append_column("frames_embedded", pa.array(num_embedded, pa.int64()))
    for name in ENCODER_TIMINGS:
        column = pa.array([took_s[name] / max(1, len(clips))] * len(clips), pa.float64())
        stored = stored.append_column(name, column)
    return stored.cast(REPORT_SCHEMA)


def _without_frames(clip: pa.Table, failure: MediaError) -> pa.Table:
    """Build the failed clip of one whose frames cannot be used."""
    values: dict[str, str | None] = {"reason": failure.reason, "message": failure.message}
    values |= dict.fromkeys(("frames", "sheet", "beside"))
    for name, value in values.items():
        index = clip.schema.get_field_index(name)
        column = pa.array([value], clip.schema.field(index).type)
        clip = clip.set_column(index, clip.schema.field(index), column)
    return clip


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
