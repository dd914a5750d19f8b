"""One decode of one file with PyAV: run after run of packets, images put where they are planned."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize, Geometry
from vxp_data.decoders.crop import Crop
from vxp_data.decoders.image import Image, Orientation, geometry_of
from vxp_data.decoders.packets import packets_of
from vxp_data.decoders.random_access import may_begin
from vxp_data.decoders.runs import Run
from vxp_data.decoders.stamps import NO_STAMP
from vxp_data.errors import MediaError
from vxp_data.records import Reason

NEAR_PACKETS = 48
"""A run that starts this many packets ahead is reached by reading on, not by a seek."""

_SOUGHT_BY_PTS = frozenset({"mov", "matroska"})
"""Demuxers that take a presentation time, and go to the key frame shown then. Given its decoding
time, which is earlier, they go to the one before, and all between is read. The indices of others
hold decoding times."""


class SeekError(Exception):
    """The demuxer cannot be brought to a key frame that it gave in the first pass."""


class TooLateError(Exception):
    """The time for another attempt is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What decoding a plan once gave."""

    frames: DecodedFrames | MediaError
    is_late_F: NDArray[np.bool_]
    """Planned frames that did not come, of a run whose first picture came after its key frame or
    not at all: they may come from further back."""

    @property
    def num_exact(self) -> int:
        """Planned frames that came."""
        return 0 if isinstance(self.frames, MediaError) else int(self.frames.is_exact_F.sum())

    def result(self) -> DecodedFrames:
        """Return the frames.

        Raises:
            MediaError: there is none.
        """
        if isinstance(self.frames, MediaError):
            raise self.frames
        return self.frames


class DecodeSession:
    """One decode of one file: where the demuxer stands, and the images so far.

    `next_position` is that of the packet which the demuxer gives next; None where nobody knows.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        plan: FramePlan,
        size: FrameSize | None,
        crop: Crop | None,
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
        self._wanted_positions = frozenset(plan.positions().tolist())
        self._size = size
        self._crop = crop
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
        self._has_sought = False

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
            frames_FHWC=self._frames_FHWC,
            is_exact_F=self._is_exact_F,
            geometry=self._geometry,
            note=self._image.note if self._image is not None else "",
        )

    def _frames_of(self, run: Run, *, skip_nonref: bool) -> Iterator[VideoFrame]:
        """Decode a run's packets and yield what comes out, in presentation order."""
        self._go_to(run)
        self._keys.clear()
        may_begin_at = may_begin(self._stream) if self._plan.by_index else None
        for position, packet in enumerate(self._packets, start=run.start):
            self._next_position = position + 1
            if time.monotonic() > self._until_s:
                raise TooLateError
            # Nothing is predicted from the images left out: the planned ones stay as they are.
            wanted = not skip_nonref or position in self._wanted_positions
            self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
            if may_begin_at and packet.pts is not None and may_begin_at(packet):
                self._keys.append((position, packet.pts))
            self._stamp(packet, position)
            yield from self._feed(packet)
            if position >= run.end:
                break
        # Codecs hold images back to put them in order. None makes this one give them up; after that
        # it takes packets again only once it is flushed.
        yield from self._feed(None)
        self._codec.flush_buffers()

    def _stamp(self, packet: Packet[VideoStream], position: int) -> None:
        """Give a packet the plan's timestamp, where the file's own does not tell the frame.

        Raises:
            SeekError: it is another packet; some demuxers begin in the middle of one after a seek.
            MediaError: `corrupt`: it is another one without a seek.
        """
        if (mended := self._plan.mended) is None:
            return
        if (NO_STAMP if packet.pts is None else packet.pts) != mended.stored_P[position]:
            if self._has_sought:
                raise SeekError
            raise MediaError(Reason.CORRUPT, "its packets are not those of the first pass")
        stamp = int(mended.stamp_P[position])
        packet.pts = None if stamp == NO_STAMP else stamp

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
            SeekError: it cannot be found.
        """
        self._has_sought = True
        by_pts = self._container.format.name.split(",")[0] in _SOUGHT_BY_PTS
        places = (run.start_pts, run.start_dts) if by_pts else (run.start_dts,)
        for place in places:
            if self._sought(place, run.start_pts):
                return
        raise SeekError

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
        if self._crop is not None:
            frame = self._crop.apply(frame)
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
