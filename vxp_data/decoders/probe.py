"""The gate: PyAV alone decides what is a video, and reads its timeline without decoding.

Nothing reaches a decoder that did not pass here. A file is opened with the `file` protocol and a
list of self-contained demuxers only; either list alone would let playlists through.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.core.timeline import frame_times
from vxp_data.decoders.base import Timeline
from vxp_data.decoders.containers import (
    IMAGE_DEMUXERS,
    VIDEO_DEMUXERS,
    image_demuxer,
    is_encrypted,
    mp4_cut_short,
    names_other_files,
    why_unopenable,
)
from vxp_data.errors import MediaError
from vxp_data.records import Media, MediaLimits, Reason
from vxp_data.storage.digest import content_digest

_LIMITS: Final = MediaLimits()
_NOT_THE_VIDEO: Final = (
    Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
)
_NO_PTS: Final = np.iinfo(np.int64).min
_IMAGE_SIZE: Final = re.compile(r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)")
_TOO_MANY_STREAMS: Final = "Number of streams exceeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A media's facts and its timeline."""

    media: Media
    timeline: Timeline


@contextmanager
def open_video(
    path: str, *, image: bool = False, limits: MediaLimits = _LIMITS
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file through the gate and pick its first video stream; other streams are not read.

    Args:
        path: a local file.
        image: open image formats instead of video formats.
        limits: on image size and streams.

    Raises:
        MediaError: not an allowed container, too many streams, or without a video stream.
    """
    try:
        container = _open(path, image=image, limits=limits)
    except MemoryError:
        if _TOO_MANY_STREAMS in _complaints(path, image=image, limits=limits):  # the same errno
            raise _too_many_streams(limits) from None
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        raise MediaError(*why_unopenable(path, _words(error))) from error
    with container:
        if len(container.streams) > limits.max_streams:
            raise _too_many_streams(limits)
        yield container, _first_video_stream(container)


def _open(path: str, *, image: bool, limits: MediaLimits) -> InputContainer:
    demuxers = IMAGE_DEMUXERS if image else VIDEO_DEMUXERS
    return av.open(
        f"file:{path}",
        "r",
        format=image_demuxer(path) if image else None,
        options={
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(demuxers),
            "max_streams": str(limits.max_streams + 1),
            "max_pixels": str(limits.max_pixels),
        },
        metadata_errors="replace",
    )


def _complaints(path: str, *, image: bool, limits: MediaLimits) -> str:
    """Open a file once more and give what FFmpeg logs: some refusals are told nowhere else."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else a message may come with the next file
    try:
        with (
            av.logging.Capture() as logs,
            suppress(av.FFmpegError, MemoryError, ValueError, OSError),
        ):
            _open(path, image=image, limits=limits).close()
    finally:
        av.logging.set_level(None)
    return "".join(message for _, _, message in logs)


def probe(
    path: str,
    uri: str,
    *,
    image: bool = False,
    limits: MediaLimits = _LIMITS,
    sparse: bool = False,
) -> Probe:
    """Read a file's facts and timeline; no frame is decoded.

    Args:
        path: where the file lies locally.
        uri: the name under which it is recorded.
        image: whether the row calls it an image.
        limits: what it may hold at most.
        sparse: images are missing from the file, so that its index tells which ones are key.

    Raises:
        MediaError: the file is missing, empty, not a video, without frames, too large, ...; the
            message names what was found.
    """
    num_bytes = _file_bytes(path)
    if names_other_files(path):
        raise MediaError(Reason.FORBIDDEN, "a playlist or script that names other files")
    with open_video(path, image=image, limits=limits) as (container, stream):
        if stream.codec_context.codec_tag == "encv" or is_encrypted(path):
            raise MediaError(Reason.ENCRYPTED, "the header declares encrypted samples")
        codec = stream.codec_context
        _check_header(path, stream, image=image, limits=limits)
        packets = _read_packets(container, stream, limits.max_frames)
        if sparse:
            packets = _keyed_by_index(packets, stream)
        if not len(packets.is_key_P) or packets.is_discard_P.all():
            raise MediaError(*_why_no_frames(path, stream))
        time_base = stream.time_base or Fraction(1, 1)
        timeline = packets.timeline(time_base, _nominal_fps(stream))
        duration_s = _duration_s(timeline, packets, time_base)
        if duration_s > limits.max_duration_s:
            raise MediaError(
                Reason.TOO_LARGE, f"{duration_s:.0f} s; at most {limits.max_duration_s:.0f}"
            )
        media = Media(
            media_id=content_digest(Path(path)),
            uri=uri,
            num_bytes=num_bytes,
            container=container.format.name.split(",")[0],
            codec=codec.name,
            pixel_format=codec.pix_fmt or "",
            width_px=codec.width,
            height_px=codec.height,
            fps=len(timeline) / duration_s if duration_s > 0 else 0.0,
            num_frames=len(timeline),
            duration_s=duration_s,
            start_s=float(timeline.pts_N[0] * time_base) if timeline.timed else 0.0,
            has_edit_list=packets.is_discard_P.any().item(),
            open_gop=packets.open_gop(),
            frames_indexed=stream.frames == len(packets.pts_P),
            num_audio_streams=sum(other.type == "audio" for other in container.streams),
        )
    return Probe(media=media, timeline=timeline)


def _check_header(path: str, stream: VideoStream, *, image: bool, limits: MediaLimits) -> None:
    """Refuse what the header says is too large, before packets are read.

    Raises:
        MediaError: `too_large`, with what the header says.
    """
    width_px, height_px = stream.codec_context.width, stream.codec_context.height
    if not width_px * height_px:  # FFmpeg forgets a size that it refuses
        complaint = _IMAGE_SIZE.search(_complaints(path, image=image, limits=limits))
        width_px, height_px = map(int, complaint.groups()) if complaint else (0, 0)
    if width_px * height_px > limits.max_pixels:
        raise MediaError(
            Reason.TOO_LARGE, f"{width_px} x {height_px} pixels; at most {limits.max_pixels}"
        )
    if stream.frames > limits.max_frames:
        raise _too_many_frames(limits.max_frames)


def _too_many_frames(max_frames: int) -> MediaError:
    return MediaError(Reason.TOO_LARGE, f"more than {max_frames} frames")


def _too_many_streams(limits: MediaLimits) -> MediaError:
    return MediaError(Reason.TOO_LARGE, f"more than {limits.max_streams} streams")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packets:
    """All packets of a stream, in file order; `_NO_PTS` where there is no timestamp."""

    pts_P: NDArray[np.int64]
    dts_P: NDArray[np.int64]
    duration_P: NDArray[np.int64]
    is_key_P: NDArray[np.bool_]
    is_discard_P: NDArray[np.bool_]

    def timeline(self, time_base: Fraction, nominal_fps: float) -> Timeline:
        """Order the presented frames, and find for each the key frame to decode from."""
        presented_P = ~self.is_discard_P
        if not self._timed():
            num_frames = int(presented_P.sum())
            index_N = np.arange(num_frames, dtype=np.int64)
            zero_N = np.zeros(num_frames, dtype=np.int64)
            return Timeline(
                pts_N=index_N,
                tick_s=1 / nominal_fps,
                time_s_N=frame_times(index_N, 1 / nominal_fps),
                is_key_N=self.is_key_P[presented_P],
                position_N=np.flatnonzero(presented_P),
                start_position_N=zero_N,
                start_pts_N=zero_N,
                start_dts_N=zero_N,
                timed=False,
            )
        order_P = np.argsort(self.pts_P, kind="stable")
        start_P = self._start_positions(order_P)
        position_N = order_P[presented_P[order_P]]
        pts_N = self.pts_P[position_N]
        return Timeline(
            pts_N=pts_N,
            tick_s=float(time_base),
            time_s_N=frame_times(pts_N, float(time_base)),
            is_key_N=self.is_key_P[position_N],
            position_N=position_N,
            start_position_N=start_P[position_N],
            start_pts_N=self.pts_P[start_P[position_N]],
            start_dts_N=np.where(self.dts_P == _NO_PTS, self.pts_P, self.dts_P)[
                start_P[position_N]
            ],
            timed=True,
        )

    def open_gop(self) -> bool:
        """Whether a frame is shown before the key frame after which it is stored."""
        key_P = np.maximum.accumulate(np.where(self.is_key_P, np.arange(len(self.pts_P)), -1))
        after_key_P = key_P >= 0
        return bool((self.pts_P < self.pts_P[key_P])[after_key_P].any())

    def _timed(self) -> bool:
        """Whether timestamps are complete, unique and, in decode order, never go back."""
        if (self.pts_P == _NO_PTS).any() or len(np.unique(self.pts_P)) < len(self.pts_P):
            return False
        dts_P = self.dts_P[self.dts_P != _NO_PTS]
        return not (np.diff(dts_P) < 0).any()

    def _start_positions(self, order_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find, for each packet, the last key packet not after it in both orders; else packet 0.

        Presentation order alone would do in a sound stream; a leading image (presented before
        its key frame, stored after it) needs the key frame before.
        """
        key_index_P = np.where(self.is_key_P[order_P], np.arange(len(order_P)), -1)
        last_key_P = np.maximum.accumulate(key_index_P)
        start_P = np.zeros(len(order_P), dtype=np.int64)
        start_P[order_P] = np.where(last_key_P >= 0, order_P[last_key_P], 0)
        for late in np.flatnonzero(start_P > np.arange(len(start_P))):
            key_K = np.flatnonzero(self.is_key_P[:late])
            key_K = key_K[self.pts_P[key_K] <= self.pts_P[late]]
            start_P[late] = key_K[-1] if len(key_K) else 0
        return start_P


@dataclass(slots=True)
class _PacketLists:
    pts: list[int] = field(default_factory=list)
    dts: list[int] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_discard: list[bool] = field(default_factory=list)


def _read_packets(container: InputContainer, stream: VideoStream, max_frames: int) -> _Packets:
    lists = _PacketLists()
    try:
        for packet in packets_of(container, stream):
            if packet.size == 0 and packet.dts is None:
                continue  # the end-of-stream mark
            lists.pts.append(_NO_PTS if packet.pts is None else packet.pts)
            lists.dts.append(_NO_PTS if packet.dts is None else packet.dts)
            lists.duration.append(packet.duration or 0)
            lists.is_key.append(packet.is_keyframe)
            lists.is_discard.append(packet.is_discard)
            if len(lists.pts) > max_frames:
                raise _too_many_frames(max_frames)
    except (av.FFmpegError, OSError):
        pass  # a damaged tail: what was read before it counts
    return _Packets(
        pts_P=np.array(lists.pts, dtype=np.int64),
        dts_P=np.array(lists.dts, dtype=np.int64),
        duration_P=np.array(lists.duration, dtype=np.int64),
        is_key_P=np.array(lists.is_key, dtype=np.bool_),
        is_discard_P=np.array(lists.is_discard, dtype=np.bool_),
    )


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Demux a stream from where the file stands to its end.

    In a damaged MPEG-TS further streams turn up on the way; PyAV does not know them and stops with
    an IndexError. Their packets are left out.
    """
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:
            continue
        return


def _keyed_by_index(packets: _Packets, stream: VideoStream) -> _Packets:
    """Take what is a key frame from the index: FFmpeg asks the images of some codecs.

    Raises:
        MediaError: `unsupported`: the index does not list just these packets.
    """
    entries = stream.index_entries
    if [entry.timestamp for entry in entries] != packets.dts_P.tolist():
        raise MediaError(Reason.UNSUPPORTED, "the index does not list every packet")
    return replace(packets, is_key_P=np.array([entry.is_keyframe for entry in entries]))


def _first_video_stream(container: InputContainer) -> VideoStream:
    chosen: VideoStream | None = None
    for stream in container.streams:
        is_video = isinstance(stream, VideoStream) and not stream.disposition & _NOT_THE_VIDEO
        if chosen is None and is_video:
            assert isinstance(stream, VideoStream)
            chosen = stream
        else:
            stream.discard = Discard.all
    if chosen is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        message = f"{container.format.name} with {kinds or 'no stream at all'}"
        raise MediaError(Reason.NO_VIDEO_STREAM, message)
    if chosen.codec_context is None:
        raise MediaError(Reason.UNSUPPORTED, f"no decoder for stream {chosen.index}")
    return chosen


def _file_bytes(path: str) -> int:
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for its other end
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "device, pipe or socket"
            raise MediaError(Reason.UNREADABLE, f"{path} is a {kind}")
        with Path(path).open("rb"):
            pass
    except FileNotFoundError as error:
        raise MediaError(Reason.MISSING, f"no file {path}") from error
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, str(error)) from error
    if status.st_size == 0:
        raise MediaError(Reason.EMPTY, "0 bytes")
    return status.st_size


def _why_no_frames(path: str, stream: VideoStream) -> tuple[Reason, str]:
    if cut := mp4_cut_short(path) if "mov" in stream.container.format.name else "":
        return Reason.TRUNCATED, cut
    if stream.frames:
        return Reason.TRUNCATED, f"the header lists {stream.frames} frames, the file holds none"
    return Reason.NO_FRAMES, "a video stream without a single frame"


def _nominal_fps(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 25.0


def _duration_s(timeline: Timeline, packets: _Packets, time_base: Fraction) -> float:
    if not timeline.timed:
        gap_s = timeline.time_s_N[1] if len(timeline) > 1 else 0.0
        return float(timeline.time_s_N[-1] + gap_s)
    last_s = float(packets.duration_P[timeline.position_N[-1]] * time_base)
    if last_s <= 0 and len(timeline) > 1:
        last_s = float(np.median(np.diff(timeline.time_s_N)))
    return float(timeline.time_s_N[-1] + last_s)


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
