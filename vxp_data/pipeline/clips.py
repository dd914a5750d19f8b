"""One media from a path to the frames of its clips. No Ray here: a plain object, tested as such."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.config import DecodeConfig, FramesConfig
from vxp_data.core.frame_sampling import frames_within, plan_indices
from vxp_data.decoders.base import FramePlan, FrameSize
from vxp_data.decoders.child import Decoded, decode_file, probe_file
from vxp_data.decoders.probe import Probe
from vxp_data.decoders.sandbox import FrameArena, Sandbox
from vxp_data.errors import MediaError
from vxp_data.records import Media, Reason
from vxp_data.registry import FRAME_SAMPLERS
from vxp_data.storage.local import file_stamp

_DECODE_S_PER_FRAME = 0.02
"""Extra wall-clock allowance for each frame of a video: a long one may take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaItem:
    """One file to read, and the clips of it that are wanted, (start, end) in seconds."""

    uri: str
    is_image: bool
    clips_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFrames:
    """The frames of one clip, or the reason why there are none (`frames_FHWC` is None then)."""

    media: Media
    clip_start_s: float = 0.0
    clip_end_s: float = math.inf
    file_stamp: str = ""
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
        frame_px: side of the square to which pictures are squashed.
    """

    def __init__(self, frames: FramesConfig, decode: DecodeConfig, frame_px: int) -> None:
        self._frames = frames
        self._decode = decode
        self._size = FrameSize(width_px=frame_px, height_px=frame_px)
        self._sampler = FRAME_SAMPLERS.load(frames.sampler)
        self._sandbox = Sandbox(decode.memory_mib << 20)
        self._arena = FrameArena()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process and free the shared memory."""
        self._sandbox.close()
        self._arena.close()

    def read(self, item: MediaItem) -> Iterator[ClipFrames]:
        """Give the frames of each clip of a media, in order; a failure is a value."""
        started_s = time.monotonic()
        stamp = file_stamp(item.uri)
        try:
            timed = self._sandbox.call(
                probe_file, item.uri, item.uri, item.is_image, timeout_s=self._decode.timeout_s
            )
        except MediaError as error:
            for clip_s in item.clips_s:
                unknown = Media(media_id="", uri=item.uri)
                yield _failed(unknown, clip_s, stamp, error, time.monotonic() - started_s)
            return
        probe_cpu_s = timed.cpu_s
        for clip_s in item.clips_s:
            clip = self._read_clip(timed.value, clip_s, stamp)
            yield replace(clip, probe_cpu_s=probe_cpu_s, wall_s=time.monotonic() - started_s)
            probe_cpu_s, started_s = 0.0, time.monotonic()  # the probe is counted once

    def _read_clip(self, probe: Probe, clip_s: tuple[float, float], stamp: str) -> ClipFrames:
        try:
            plan = self._plan(probe, clip_s)
            decoded, decoder, note, cpu_s = self._decode_plan(probe.media, plan)
        except MediaError as error:
            return _failed(probe.media, clip_s, stamp, error, 0.0)
        media = replace(
            probe.media,
            width_px=decoded.geometry.width_px,
            height_px=decoded.geometry.height_px,
            rotation=decoded.geometry.rotation,
        )
        return ClipFrames(
            media=media,
            clip_start_s=clip_s[0],
            clip_end_s=clip_s[1],
            file_stamp=stamp,
            frame_index_F=plan.frame_index_F,
            time_s_F=plan.time_s_F,
            frames_FHWC=self._arena.take(decoded.shape),
            frames_exact=int(decoded.is_exact_F.sum()),
            decoder=decoder,
            decoder_note=note,
            decode_cpu_s=cpu_s,
        )

    def _plan(self, probe: Probe, clip_s: tuple[float, float]) -> FramePlan:
        timeline = probe.timeline
        within = frames_within(timeline.time_s_N, *clip_s)
        if within.start >= within.stop:
            raise MediaError(
                Reason.OUTSIDE_CLIP,
                f"no frame in [{clip_s[0]:g} s, {clip_s[1]:g} s); the video has "
                f"{probe.media.duration_s:.3f} s",
            )
        index_F = plan_indices(
            timeline.time_s_N[within],
            timeline.is_key_N[within],
            sampler=self._sampler,
            num_frames=self._frames.num_frames,
            seek=self._frames.seek if timeline.timed else "exact",
        )
        return timeline.plan(index_F + within.start)

    def _decode_plan(self, media: Media, plan: FramePlan) -> tuple[Decoded, str, str, float]:
        """Decode with the decoder asked for; where it fails or does not claim the media, once more.

        Where a decoder says `unsupported`, PyAV takes its place, since the gate is PyAV's own.
        """
        first = self._decode.decoder
        try:
            decoded, cpu_s = self._decode_with(first, media, plan)
        except MediaError as error:
            second = "pyav" if error.reason is Reason.UNSUPPORTED else self._decode.fallback
            if second is None or second == first:
                raise
            note = f"{first}: {error}"
            try:
                decoded, cpu_s = self._decode_with(second, media, plan)
            except MediaError as again:
                raise MediaError(error.reason, f"{note}; {second}: {again}") from again
            return decoded, second, note, cpu_s
        return decoded, first, "", cpu_s

    def _decode_with(self, name: str, media: Media, plan: FramePlan) -> tuple[Decoded, float]:
        self._arena.reserve(len(plan) * self._size.height_px * self._size.width_px * 3)
        timed = self._sandbox.call(
            decode_file,
            name,
            media.uri,
            media,
            plan,
            self._size,
            self._arena.path,
            timeout_s=self._decode.timeout_s + _DECODE_S_PER_FRAME * media.num_frames,
        )
        return timed.value, timed.cpu_s


def _failed(
    media: Media, clip_s: Sequence[float], stamp: str, error: MediaError, wall_s: float
) -> ClipFrames:
    return ClipFrames(
        media=media,
        clip_start_s=clip_s[0],
        clip_end_s=clip_s[1],
        file_stamp=stamp,
        frame_index_F=np.zeros(0, dtype=np.int64),
        time_s_F=np.zeros(0, dtype=np.float64),
        reason=error.reason,
        message=error.message,
        wall_s=wall_s,
    )
