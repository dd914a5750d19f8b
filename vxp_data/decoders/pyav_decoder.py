"""PyAV: the default decoder. Seeks once per group of images and decodes only what it must.

For 20 frames of a long video nearly all the cost is in images that nobody asked for. So: planned
frames that can share a run of packets are grouped into *runs*; each run starts at a key frame found
in the demux pass, goes forward only, lets the codec drop images to which no other refers, and
stops at its last planned frame. The frames are bit for bit those of a full decode.

A file may take for a key frame what is none. The codec then gives nothing until its pictures are
whole; what is missing for that is decoded again from further back.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.decoders import kept
from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize, Geometry
from vxp_data.decoders.child_process import call_reaches
from vxp_data.decoders.containers import VIDEO_DEMUXERS
from vxp_data.decoders.crop import crop_of
from vxp_data.decoders.decode_session import Attempt, DecodeSession, SeekError, TooLateError
from vxp_data.decoders.image import Orientation, geometry_of
from vxp_data.decoders.packets import packets_of
from vxp_data.decoders.probe import open_video
from vxp_data.decoders.runs import Run, runs_of, whole_run
from vxp_data.errors import MediaError
from vxp_data.records import Media, Reason

_FURTHER_BACK_SHARE = 0.5
"""How much of its time a decode may have taken while frames are looked for from further back. A
damaged video has none there, and is to keep what it gave at first."""


class PyavDecoder:
    """Decodes with the FFmpeg that PyAV carries; takes every media that passed the gate."""

    name = "pyav"

    def check(self) -> None:
        """Pass: the gate has used it already."""

    def supports(self, media: Media) -> bool:  # noqa: ARG002 - the Protocol's question
        """Whether a media is supported; whatever passed the gate is: the gate is PyAV's own."""
        return True

    def decode(
        self, path: str, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> DecodedFrames:
        """Decode the planned frames; see `Decoder.decode`.

        Where a planned frame does not come, all is decoded again without leaving images out, so
        that the nearest earlier image is really the nearest.
        """
        runs = list(runs_of(plan)) if plan.timed else []
        try:
            first = attempt(path, media, plan, size, runs, skip_nonref=True)
            if not plan.timed or first.num_exact == len(plan):
                return first.result()
            # Where images were fetched by the index, there is nothing further back.
            if first.is_late_F.any() and not plan.by_index:
                return _from_further_back(path, media, plan, size, first).result()
            return attempt(path, media, plan, size, runs, skip_nonref=False).result()
        except SeekError:  # one pass from the top gives the same frames, for more work
            whole = [whole_run(plan)]
            return attempt(path, media, plan, size, whole, skip_nonref=False).result()


def _from_further_back(
    path: str, media: Media, plan: FramePlan, size: FrameSize | None, best: Attempt
) -> Attempt:
    """Decode again, late frames from where the run before begins, then all from the top.

    Args:
        path: of a local file.
        media: what was found there.
        plan: the frames.
        size: to scale to; None: as they are.
        best: the first attempt.

    Returns:
        The attempt with most planned frames, the later one of equals; the best so far where the
        time is over.
    """
    until_s = call_reaches(_FURTHER_BACK_SHARE)
    nearer = list(runs_of(_begun_earlier(plan, best.is_late_F)))
    with suppress(TooLateError):
        for runs in (nearer, [whole_run(plan)]):
            again = attempt(path, media, plan, size, runs, skip_nonref=False, until_s=until_s)
            if again.num_exact >= best.num_exact:
                best = again
            if not best.is_late_F.any():
                break
    return best


def _begun_earlier(plan: FramePlan, is_late_F: NDArray[np.bool_]) -> FramePlan:
    """Let late frames be decoded from where the frames before them are; the first ones stay."""
    slot_F = np.arange(len(plan))
    for slot in np.flatnonzero(is_late_F):
        earlier = np.flatnonzero(plan.start_position_F < plan.start_position_F[slot])
        slot_F[slot] = earlier[-1] if len(earlier) else slot
    return replace(
        plan,
        start_position_F=plan.start_position_F[slot_F],
        start_pts_F=plan.start_pts_F[slot_F],
        start_dts_F=plan.start_dts_F[slot_F],
    )


def displayed_geometry(path: str, media: Media) -> Geometry:
    """Decode the first image for how the video is displayed.

    Raises:
        MediaError: not one frame can be decoded.
    """
    with _opened(path, media) as (container, stream):
        try:
            packets = packets_of(container, stream)
            frame = next(frame for packet in packets for frame in packet.decode())
        except (av.FFmpegError, StopIteration) as error:
            raise MediaError(Reason.DECODE_FAILED, str(error)) from error
        orientation = Orientation.of(frame) or Orientation()
        crop = crop_of(path, container, stream) if media.has_crop else None
        shown = crop.apply(frame) if crop else frame
        return geometry_of(shown, stream.sample_aspect_ratio, orientation)


def attempt(
    path: str,
    media: Media,
    plan: FramePlan,
    size: FrameSize | None,
    runs: list[Run],
    *,
    skip_nonref: bool,
    until_s: float = math.inf,
) -> Attempt:
    """Decode planned frames run by run, once; untimed frames, in order.

    Args:
        path: of a local file.
        media: what was found there.
        plan: the frames.
        size: to scale to; None: as they are.
        runs: of the plan, in decode order.
        skip_nonref: leave out images on which no planned frame depends.
        until_s: by time.monotonic, when to give up.

    Raises:
        MediaError: the file cannot be opened, or its key frames are not where its index has them.
        SeekError: a run's key frame cannot be found.
        TooLateError: the time is over.
    """
    with kept.taken(path) as probed, suppress(SeekError):
        if probed is not None and plan.timed:
            crop = crop_of(path, *probed) if media.has_crop else None
            session = DecodeSession(*probed, plan, size, crop, next_position=None, until_s=until_s)
            return session.decode(runs, skip_nonref=skip_nonref)
    with _opened(path, media) as (container, stream):
        crop = crop_of(path, container, stream) if media.has_crop else None
        session = DecodeSession(
            container, stream, plan, size, crop, next_position=0, until_s=until_s
        )
        return session.decode(runs, skip_nonref=skip_nonref)


def _opened(path: str, media: Media) -> AbstractContextManager[tuple[InputContainer, VideoStream]]:
    """Open a file that was probed, and the stream that was chosen then."""
    is_image = media.container not in VIDEO_DEMUXERS
    return open_video(path, image=is_image, stream_index=media.stream_index)
