"""One media from a path to the frames of its clips. A plain object, tested as such."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import frames_shown, plan_indices
from vxp_data.core.timeline import pack_timeline
from vxp_data.decoders.base import FramePlan, FrameSize
from vxp_data.decoders.probe import Probe
from vxp_data.errors import MediaError
from vxp_data.pipeline.media.reader import MediaReader, MisleadingIndexError
from vxp_data.records import Media, Reason
from vxp_data.registry import FRAME_SAMPLERS
from vxp_data.settings.prune import DecodeConfig, FetchConfig, FramesConfig

_FETCH: Final = FetchConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaItem:
    """One file to read, and the clips of it that are wanted, (start, end) in seconds."""

    uri: str
    is_image: bool
    clips_s: tuple[tuple[float, float], ...]
    file_version: str
    """As the run found the file when it began; what is made of it goes by this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFrames:
    """The frames of one clip, or the reason why there are none (`frames_FHWC` is None then)."""

    media: Media
    clip_start_s: float = 0.0
    clip_end_s: float = math.inf
    file_version: str = ""
    bytes_fetched: int = 0
    timeline: str = ""
    """Every frame's time, packed; see core.timeline."""
    frame_index_F: NDArray[np.int64]
    time_s_F: NDArray[np.float64]
    frames_FHWC: NDArray[np.uint8] | None = None
    frames_exact: int = 0
    decoder: str = ""
    decoder_note: str = ""
    reason: Reason | None = None
    message: str = ""
    probe_cpu_s: float = 0.0
    decode_cpu_s: float = 0.0
    wall_s: float = 0.0


class ClipReader:
    """Probes, plans and decodes one media after another, each in the sandbox.

    Args:
        frames: which frames.
        decode: how, and within which limits.
        frame_px: side of the square to which images are squashed.
        fetch: how files come from object stores.
    """

    def __init__(
        self,
        frames: FramesConfig,
        decode: DecodeConfig,
        frame_px: int,
        fetch: FetchConfig = _FETCH,
    ) -> None:
        self._frames = frames
        self._size = FrameSize(width_px=frame_px, height_px=frame_px)
        self._max_inexact_share = decode.max_inexact_share
        self._sampler = FRAME_SAMPLERS.load(frames.sampler)
        self._reader = MediaReader(decode, fetch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the child process and free the shared memory."""
        self._reader.close()

    def read(self, item: MediaItem) -> Iterator[ClipFrames]:
        """Return the frames of each clip of a media, in order; a failure is a value."""
        counted = 0
        try:
            for clip in self._read(item):
                fetched, counted = self._reader.bytes_fetched - counted, self._reader.bytes_fetched
                yield replace(clip, bytes_fetched=fetched)
        finally:
            self._reader.release()

    def _read(self, item: MediaItem, *, by_index: bool = True) -> Iterator[ClipFrames]:
        started_s = time.monotonic()
        file_version = item.file_version
        try:
            timed = self._reader.probe(item.uri, is_image=item.is_image, by_index=by_index)
        except MediaError as error:
            for clip_s in item.clips_s:
                unknown = Media(media_id="", uri=item.uri)
                yield _failed(unknown, clip_s, file_version, error, time.monotonic() - started_s)
            return
        probe_cpu_s = timed.cpu_s
        for number, clip_s in enumerate(item.clips_s):
            try:
                clip = self._read_clip(timed.value, clip_s, file_version)
            except MisleadingIndexError:
                rest = replace(item, clips_s=item.clips_s[number:])
                yield from self._read(rest, by_index=False)
                return
            yield replace(clip, probe_cpu_s=probe_cpu_s, wall_s=time.monotonic() - started_s)
            probe_cpu_s, started_s = 0.0, time.monotonic()  # the probe is counted once

    def _read_clip(
        self, probe: Probe, clip_s: tuple[float, float], file_version: str
    ) -> ClipFrames:
        try:
            plan = self._plan(probe, clip_s)
            planned = self._reader.decode(probe.media, plan, self._size)
            self._check_exact(planned.num_exact, len(plan))
        except MediaError as error:
            return _failed(probe.media, clip_s, file_version, error, 0.0)
        return ClipFrames(
            media=planned.media,
            clip_start_s=clip_s[0],
            clip_end_s=clip_s[1],
            file_version=file_version,
            timeline=pack_timeline(probe.timeline.pts_N, probe.timeline.tick_s),
            frame_index_F=plan.frame_index_F,
            time_s_F=plan.time_s_F,
            frames_FHWC=planned.frames_FHWC,
            frames_exact=planned.num_exact,
            decoder=planned.decoder,
            decoder_note=planned.note,
            decode_cpu_s=planned.cpu_s,
        )

    def _check_exact(self, num_exact: int, num_planned: int) -> None:
        """Check that enough of the planned frames came.

        Raises:
            MediaError: `inexact`: they did not.
        """
        most = self._max_inexact_share
        if most is not None and num_planned - num_exact > most * num_planned:
            raise MediaError(
                Reason.INEXACT,
                f"{num_planned - num_exact} of {num_planned} frames could not be decoded; "
                f"decode.max_inexact_share is {most:g}",
            )

    def _plan(self, probe: Probe, clip_s: tuple[float, float]) -> FramePlan:
        timeline = probe.timeline
        within = frames_shown(timeline.time_s_N, probe.media.duration_s, *clip_s)
        if within.start == within.stop:
            raise MediaError(
                Reason.OUTSIDE_CLIP,
                f"nothing is shown in [{clip_s[0]:g} s, {clip_s[1]:g} s); the video has "
                f"{probe.media.duration_s:.3f} s",
            )
        index_F = plan_indices(
            np.maximum(timeline.time_s_N[within], clip_s[0]),
            timeline.is_key_N[within],
            sampler=self._sampler,
            num_frames=self._frames.num_frames,
            seek=self._frames.seek if timeline.timed else "exact",
        )
        return timeline.plan(index_F + within.start)


def failed_clips(item: MediaItem, error: MediaError) -> list[ClipFrames]:
    """Return every clip of a media that is not even opened."""
    unknown = Media(media_id="", uri=item.uri)
    return [_failed(unknown, clip_s, item.file_version, error, 0.0) for clip_s in item.clips_s]


def _failed(
    media: Media, clip_s: Sequence[float], file_version: str, error: MediaError, wall_s: float
) -> ClipFrames:
    return ClipFrames(
        media=media,
        clip_start_s=clip_s[0],
        clip_end_s=clip_s[1],
        file_version=file_version,
        frame_index_F=np.zeros(0, dtype=np.int64),
        time_s_F=np.zeros(0, dtype=np.float64),
        reason=error.reason,
        message=error.message,
        wall_s=wall_s,
    )
