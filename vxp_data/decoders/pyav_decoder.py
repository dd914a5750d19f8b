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
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.decoders import kept
from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize, Geometry
from vxp_data.decoders.child_process import call_reaches
from vxp_data.decoders.containers import VIDEO_DEMUXERS
from vxp_data.decoders.image import Image, Orientation, geometry_of
from vxp_data.decoders.packets import packets_of
from vxp_data.decoders.probe import open_video
from vxp_data.decoders.random_access import may_begin
from vxp_data.decoders.runs import Attempt, Run, begun_earlier, runs_of, whole_run
from vxp_data.errors import MediaError
from vxp_data.records import Media, Reason

NEAR_PACKETS = 48
"""A run that starts this many packets ahead is reached by reading on, not by a seek."""

_FURTHER_BACK_SHARE = 0.5
"""How much of its time a decode may have taken while frames are looked for from further back. A
damaged video has none there, and is to keep what it gave at first."""

_SOUGHT_BY_PTS = frozenset({"mov", "matroska"})
"""Demuxers that take a presentation time, and go to the key frame shown then. Given its decoding
time, which is earlier, they go to the one before, and all between is read. The indices of others
hold decoding times."""


class _SeekError(Exception):
    """The demuxer cannot be brought to a key frame that it gave in the first pass."""


class _TooLateError(Exception):
    """The time for another attempt is over."""


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
        except _SeekError:  # one pass from the top gives the same frames, for more work
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
    nearer = list(runs_of(begun_earlier(plan, best.is_late_F)))
    with suppress(_TooLateError):
        for runs in (nearer, [whole_run(plan)]):
            again = attempt(path, media, plan, size, runs, skip_nonref=False, until_s=until_s)
            if again.num_exact >= best.num_exact:
                best = again
            if not best.is_late_F.any():
                break
    return best


def displayed_geometry(path: str, media: Media) -> Geometry:
    """Decode the first image for how the video is displayed.

    Raises:
        MediaError: not one frame can be decoded.
    """
    with open_video(path, image=media.container not in VIDEO_DEMUXERS) as (container, stream):
        try:
            packets = packets_of(container, stream)
            frame = next(frame for packet in packets for frame in packet.decode())
        except (av.FFmpegError, StopIteration) as error:
            raise MediaError(Reason.DECODE_FAILED, str(error)) from error
        orientation = Orientation.of(frame) or Orientation()
        return geometry_of(frame, stream.sample_aspect_ratio, orientation)


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
        _SeekError: a run's key frame cannot be found.
        _TooLateError: the time is over.
    """
    with kept.taken(path) as probed, suppress(_SeekError):
        if probed is not None and plan.timed:
            session = _Session(*probed, plan, size, next_position=None, until_s=until_s)
            return session.decode(runs, skip_nonref=skip_nonref)
    with open_video(path, image=media.container not in VIDEO_DEMUXERS) as (container, stream):
        session = _Session(container, stream, plan, size, next_position=0, until_s=until_s)
        return session.decode(runs, skip_nonref=skip_nonref)


class _Session:
    """One decode of one file: where the demuxer stands, and the images so far.

    `next_position` is that of the packet which the demuxer gives next; None where nobody knows.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        plan: FramePlan,
        size: FrameSize | None,
        *,
        next_position: int | None,
        until_s: float,
    ) -> None:
        self._container = container
        self._stream = stream
        self._codec = stream.codec_context
        self._codec.thread_count = 1  # one video, one core: parallelism is across videos
        self._codec.thread_type = ThreadType.NONE
        self._plan = plan
        self._wanted_positions = frozenset(plan.position_F.tolist())
        self._size = size
        self._packets = packets_of(container, stream)
        self._next_position = next_position
        self._until_s = until_s
        self._image: Image | None = None
        self._geometry: Geometry | None = None
        self._orientation = Orientation()
        self._frames_FHWC: NDArray[np.uint8] | None = None
        self._is_there_F = np.zeros(len(plan), dtype=np.bool_)
        self._is_exact_F = np.zeros(len(plan), dtype=np.bool_)
        self._is_late_F = np.zeros(len(plan), dtype=np.bool_)
        self._previous: VideoFrame | None = None
        self._keys: list[tuple[int, int]] = []
        self._last_error = ""

    def decode(self, runs: Sequence[Run], *, skip_nonref: bool) -> Attempt:
        """Decode planned frames run by run; untimed frames, in order."""
        if self._plan.timed:
            for run in runs:
                self.decode_run(run, skip_nonref=skip_nonref)
        else:
            self.decode_in_order()
        is_late_F = self._is_late_F & ~self._is_exact_F
        return Attempt(frames=self.frames(), is_late_F=is_late_F)

    def decode_run(self, run: Run, *, skip_nonref: bool) -> None:
        """Decode one run; `skip_nonref` leaves out images to which no other refers."""
        slot_of = {int(self._plan.pts_F[slot]): slot for slot in range(run.first, run.last + 1)}
        waiting = list(range(run.first, run.last + 1))
        is_late = run.start > 0  # until a picture comes
        for number, frame in enumerate(self._frames_of(run, skip_nonref=skip_nonref)):
            if number == 0:
                self._note_orientation(frame)
                is_late &= frame.pts is None or frame.pts > run.start_pts
            if frame.pts is None:
                continue
            # Images come in presentation order: a planned one that is overtaken will not come.
            while waiting and self._plan.pts_F[waiting[0]] < frame.pts:
                self._fill([waiting.pop(0)])
            if (slot := slot_of.get(frame.pts)) is not None:
                self._put(slot, frame, exact=True)
                waiting = [other for other in waiting if other != slot]
            self._previous = frame
        if self._plan.by_index:
            self._check_keys(run)
        self._is_late_F[run.first : run.last + 1] = is_late
        self._fill(waiting)

    def decode_in_order(self) -> None:
        """Decode from the start and count: for streams without usable timestamps."""
        slot_of = {int(index): slot for slot, index in enumerate(self._plan.frame_index_F)}
        last = int(self._plan.frame_index_F[-1])
        for index, frame in enumerate(self._all_frames()):
            if index == 0:
                self._note_orientation(frame)
            if index in slot_of:
                self._put(slot_of[index], frame, exact=True)
            self._previous = frame
            if index >= last:
                break
        self._fill(range(len(self._plan)))

    def frames(self) -> DecodedFrames | MediaError:
        """Return what was decoded; planned frames before the first that worked repeat that one."""
        if self._frames_FHWC is None:
            why = self._last_error or "the decoder gave no frame"
            return MediaError(Reason.DECODE_FAILED, f"{self._codec.name}: {why}")
        first = int(self._is_there_F.argmax())
        self._frames_FHWC[~self._is_there_F] = self._frames_FHWC[first]
        return DecodedFrames(
            frames_FHWC=self._frames_FHWC, is_exact_F=self._is_exact_F, geometry=self._geometry
        )

    def _frames_of(self, run: Run, *, skip_nonref: bool) -> Iterator[VideoFrame]:
        """Decode a run's packets and yield what comes out, in presentation order."""
        self._go_to(run)
        self._keys.clear()
        may_begin_at = may_begin(self._stream) if self._plan.by_index else None
        for position, packet in enumerate(self._packets, start=run.start):
            self._next_position = position + 1
            if time.monotonic() > self._until_s:
                raise _TooLateError
            # Nothing is predicted from the images left out: the planned ones stay as they are.
            wanted = not skip_nonref or position in self._wanted_positions
            self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
            if may_begin_at and packet.pts is not None and may_begin_at(packet):
                self._keys.append((position, packet.pts))
            yield from self._feed(packet)
            if position >= run.end:
                break
        # Codecs hold images back to put them in order. None makes this one give them up; after that
        # it takes packets again only once it is flushed.
        yield from self._feed(None)
        self._codec.flush_buffers()

    def _check_keys(self, run: Run) -> None:
        """Check that each frame of a run was decoded from the key frame that is nearest to it.

        Raises:
            MediaError: `corrupt`: the index, of which the plan was made, is wrong about key frames.
        """
        for slot in range(run.first, run.last + 1):
            position, pts = self._plan.position_F[slot], self._plan.pts_F[slot]
            before = [key for key, key_pts in self._keys if key <= position and key_pts <= pts]
            if max(before, default=-1) != self._plan.start_position_F[slot]:
                raise MediaError(Reason.CORRUPT, "key frames are not where the index has them")

    def _note_orientation(self, frame: VideoFrame) -> None:
        """Remember a display matrix: a stream may carry it on its first frame only.

        Asked of a run's first frame and of kept ones: PyAV wraps all side data of a frame for it.
        """
        if (orientation := Orientation.of(frame)) is not None:
            self._orientation = orientation

    def _all_frames(self) -> Iterator[VideoFrame]:
        for packet in self._packets:
            # The demuxer's last packet is empty: it asks for what the codec still holds back.
            yield from self._feed(packet if packet.size else None)

    def _feed(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return self._codec.decode(packet)
        except MemoryError:  # PyAV's is an FFmpegError too
            raise
        except (av.FFmpegError, ValueError) as error:
            # A damaged packet costs its own images only: the rest of the run is tried.
            if isinstance(error, av.EOFError):
                return []
            self._last_error = str(error)
            return []

    def _go_to(self, run: Run) -> None:
        """Move the demuxer to a run's first packet: by reading on, or by a seek."""
        here = self._next_position
        if here is not None and here <= run.start <= here + NEAR_PACKETS:
            for _ in range(run.start - here):
                next(self._packets, None)
        else:
            self._seek(run)

    def _seek(self, run: Run) -> None:
        """Move the demuxer to a run's first packet by a seek.

        Raises:
            _SeekError: it cannot be found.
        """
        by_pts = self._container.format.name.split(",")[0] in _SOUGHT_BY_PTS
        places = (run.start_pts, run.start_dts) if by_pts else (run.start_dts,)
        for place in places:
            if self._sought(place, run.start_pts):
                return
        raise _SeekError

    def _sought(self, place: int, start_pts: int) -> bool:
        """Seek to a time, and read on until a packet comes; whether it did."""
        try:
            self._container.seek(place, stream=self._stream)
        except (av.FFmpegError, OSError):
            return False
        packets = packets_of(self._container, self._stream)
        for packet in packets:
            # A seek may land on an earlier key frame: read on until ours comes, or one behind it.
            if packet.pts == start_pts:
                self._packets = chain([packet], packets)
                return True
            if packet.pts is None or (packet.is_keyframe and packet.pts > start_pts):
                break
        return False

    def _put(self, slot: int, frame: VideoFrame, *, exact: bool) -> None:
        self._note_orientation(frame)
        if self._image is None or self._frames_FHWC is None:
            # All frames go into one array: where no size is asked for, the first image has it.
            geometry = geometry_of(frame, self._stream.sample_aspect_ratio, self._orientation)
            size = self._size or FrameSize(width_px=geometry.width_px, height_px=geometry.height_px)
            self._geometry, self._image = geometry, Image(size)
            shape = (len(self._plan), size.height_px, size.width_px, 3)
            self._frames_FHWC = np.empty(shape, dtype=np.uint8)
        self._image.draw(frame, self._orientation, self._frames_FHWC[slot])
        self._is_there_F[slot], self._is_exact_F[slot] = True, exact

    def _fill(self, slots: Iterable[int]) -> None:
        """Fill in, for planned frames that did not come, the nearest earlier image."""
        for slot in slots:
            if not self._is_there_F[slot] and self._previous is not None:
                self._put(slot, self._previous, exact=False)
