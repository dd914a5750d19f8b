"""The gate: PyAV alone decides what is a video, and reads its timeline without decoding.

Nothing reaches a decoder that did not pass here. A file is opened with the `file` protocol and a
list of self-contained demuxers only; either list alone would let playlists through.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

import av
import av.logging
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vxp_data.decoders import kept
from vxp_data.decoders.base import Timeline
from vxp_data.decoders.beginnings import may_be_cut, without_cut_images
from vxp_data.decoders.containers import (
    IMAGE_DEMUXERS,
    VIDEO_DEMUXERS,
    image_demuxer,
    is_encrypted,
    mp4_cut_short,
    names_other_files,
    why_unopenable,
)
from vxp_data.decoders.crop import crop_of
from vxp_data.decoders.h264_slices import FieldReader
from vxp_data.decoders.hollow import HollowFile
from vxp_data.decoders.packets import (
    Packets,
    keyed_by_index,
    read_packets,
    too_many_frames,
    with_display_order,
)
from vxp_data.decoders.timelines import timeline_of
from vxp_data.decoders.video_streams import (
    choose,
    count_frames,
    needs_count,
    take,
    video_streams,
)
from vxp_data.errors import MediaError
from vxp_data.records import Media, MediaLimits, Reason
from vxp_data.storage.digest import content_digest

_LIMITS: Final = MediaLimits()
_IMAGE_SIZE: Final = re.compile(r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)")
_TOO_MANY_STREAMS: Final = "Number of streams exceeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A media's facts and its timeline."""

    media: Media
    timeline: Timeline


_Opened = AbstractContextManager[tuple[InputContainer, VideoStream]]


@contextmanager
def open_video(
    path: str,
    *,
    image: bool = False,
    limits: MediaLimits = _LIMITS,
    hollow: HollowFile | None = None,
    stream_index: int | None = None,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file through the gate and pick its video stream; other streams are not read.

    Args:
        path: a local file.
        image: open image formats instead of video formats.
        limits: on image size and streams.
        hollow: the same file, to be read through this.
        stream_index: of the stream that was chosen before; None to choose.

    Raises:
        MediaError: not an allowed container, too many streams, or without a video stream.
    """
    try:
        container = _open(path, image=image, limits=limits, hollow=hollow)
    except MemoryError:
        if _TOO_MANY_STREAMS in _complaints(path, image=image, limits=limits):  # the same errno
            raise _too_many_streams(limits) from None
        raise
    except (av.FFmpegError, ValueError, OSError) as error:
        raise MediaError(*why_unopenable(path, _words(error))) from error
    with container:
        if len(container.streams) > limits.max_streams:
            raise _too_many_streams(limits)
        if stream_index is not None:
            yield container, take(container, stream_index)
            return
        streams = video_streams(container)
        counted: Counter[int] = Counter()
        # What is read through a hollow file has an index, which counts; and it is one file.
        if not image and hollow is None and needs_count(streams):
            with _open(path, image=image, limits=limits) as again:
                counted = count_frames(again, video_streams(again), limits.max_frames)
        yield container, choose(container, streams, counted, image=image)


def _open(
    path: str, *, image: bool, limits: MediaLimits, hollow: HollowFile | None = None
) -> InputContainer:
    demuxers = IMAGE_DEMUXERS if image else VIDEO_DEMUXERS
    return av.open(
        hollow or f"file:{path}",
        "r",
        format=image_demuxer(path) if image else None,
        options={
            "protocol_whitelist": "file",
            "format_whitelist": ",".join(demuxers),
            # One more than is allowed, which we refuse by name: FFmpeg's own refusal is ENOMEM.
            "max_streams": str(limits.max_streams + 1),
            "max_pixels": str(limits.max_pixels),
        },
        metadata_errors="replace",
    )


def _complaints(path: str, *, image: bool, limits: MediaLimits) -> str:
    """Open a file once more and return what FFmpeg logs: some refusals are told nowhere else."""
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
    hollow: HollowFile | None = None,
    keep_open: bool = False,
) -> Probe:
    """Read a file's facts and timeline; no frame is decoded, but to see where a recording begins.

    Args:
        path: where the file lies locally.
        uri: the name under which it is recorded.
        image: whether the row calls it an image.
        limits: what it may hold at most.
        sparse: images are missing from the file, so that its index tells which ones are key.
        hollow: the same file, whose images are not to be read; the index tells here too.
        keep_open: leave the container open for a decode that follows; see `kept`.

    Raises:
        MediaError: the file is missing, empty, not a video, without frames, too large, ...; the
            message names what was found.
    """
    num_bytes = _file_bytes(path)
    if names_other_files(path):
        raise MediaError(Reason.FORBIDDEN, "a playlist or script that names other files")
    kept.release()
    with ExitStack() as stack:
        opened = open_video(path, image=image, limits=limits, hollow=hollow)
        container, stream = stack.enter_context(opened)
        codec = stream.codec_context
        _check_header(path, stream, image=image, limits=limits)
        if hollow is not None:
            hollow.hollow_out()
        fields = FieldReader.of(codec.name, codec.extradata)
        packets = read_packets(container, stream, limits.max_frames, fields)
        by_index = sparse or hollow is not None
        if by_index:
            packets = keyed_by_index(packets, stream, hollow.there if hollow is not None else ())
        if not len(packets.is_key_P) or packets.is_discard_P.all():
            raise MediaError(*_why_no_frames(path, stream))
        again = partial(open_video, path, image=image, limits=limits, stream_index=stream.index)
        time_base = stream.time_base or Fraction(1, 1)
        packets, timeline = _timed(packets, stream, again)
        if by_index and (fields is not None or not _is_plain(packets, timeline)):
            raise MediaError(Reason.UNSUPPORTED, "the index does not tell frames and times")
        duration_s = _duration_s(timeline, packets, time_base)
        if duration_s > limits.max_duration_s:
            raise MediaError(
                Reason.TOO_LARGE, f"{duration_s:.0f} s; at most {limits.max_duration_s:.0f}"
            )
        media = Media(
            media_id=content_digest(path) if hollow is None else hollow.digest(),
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
            start_s=_start_s(timeline, time_base),
            has_edit_list=packets.is_discard_P.any().item(),
            open_gop=packets.open_gop(),
            gradual_refresh=packets.gradual_refresh,
            frames_indexed=stream.frames == len(packets.pts_P) and not packets.in_fields(),
            time_note=timeline.note if len(timeline) > 1 else "",
            num_audio_streams=sum(other.type == "audio" for other in container.streams),
            stream_index=stream.index,
            num_video_streams=len(video_streams(container)),
            has_crop=crop_of(path, container, stream) is not None,
        )
        if keep_open and timeline.timed and kept.can_be_kept(container):
            kept.keep(path, container, stream, stack.pop_all())
    return Probe(media=media, timeline=timeline)


def _is_plain(packets: Packets, timeline: Timeline) -> bool:
    return timeline.timed and timeline.mended is None and not packets.order_is_unclear()


def _timed(
    packets: Packets, stream: VideoStream, again: Callable[[], _Opened]
) -> tuple[Packets, Timeline]:
    """Find what is shown when; `again` opens the file anew, where its images must be looked at."""
    if may_be_cut(packets):
        with again() as opened:
            packets = without_cut_images(packets, *opened)
    time_base, fps = stream.time_base or Fraction(1, 1), _nominal_fps(stream)
    timeline = timeline_of(packets, time_base, fps)
    is_open = packets.order_is_unclear() or (not timeline.timed and packets.any_stamp())
    if is_open and not packets.by_index:  # such ones are refused, where only the index was read
        with again() as opened:
            packets = with_display_order(packets, *opened)
        timeline = timeline_of(packets, time_base, fps)
    return packets, timeline


def _check_header(path: str, stream: VideoStream, *, image: bool, limits: MediaLimits) -> None:
    """Refuse what the header says cannot be read, before packets are.

    Raises:
        MediaError: `encrypted` or `too_large`, with what the header says.
    """
    if stream.codec_context.codec_tag == "encv" or is_encrypted(path):
        raise MediaError(Reason.ENCRYPTED, "the header declares encrypted samples")
    width_px, height_px = stream.codec_context.width, stream.codec_context.height
    if not width_px * height_px:  # FFmpeg forgets a size that it refuses
        complaint = _IMAGE_SIZE.search(_complaints(path, image=image, limits=limits))
        width_px, height_px = map(int, complaint.groups()) if complaint else (0, 0)
    if width_px * height_px > limits.max_pixels:
        raise MediaError(
            Reason.TOO_LARGE, f"{width_px} x {height_px} pixels; at most {limits.max_pixels}"
        )
    if stream.frames > limits.max_frames:
        raise too_many_frames(limits.max_frames)


def _too_many_streams(limits: MediaLimits) -> MediaError:
    return MediaError(Reason.TOO_LARGE, f"more than {limits.max_streams} streams")


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
    # 25 is what FFmpeg takes for raw streams, which carry no rate.
    return float(rate) if rate else 25.0


def _start_s(timeline: Timeline, time_base: Fraction) -> float:
    if timeline.by_rate:
        return 0.0
    scale = round(float(time_base) / timeline.tick_s)
    return float(timeline.pts_N[0] * time_base / scale)


def _duration_s(timeline: Timeline, packets: Packets, time_base: Fraction) -> float:
    if timeline.by_rate:
        gap_s = timeline.time_s_N[1] if len(timeline) > 1 else 0.0
        return float(timeline.time_s_N[-1] + gap_s)
    last_s = float(packets.duration_P[timeline.position_N[-1]] * time_base)
    if (last_s <= 0 or packets.in_fields()) and len(timeline) > 1:
        # The container does not say how long the last frame stays: where fields are stored apart,
        # some say it of a field and some of a frame. The median, since one long pause would
        # stretch a mean.
        last_s = float(np.median(np.diff(timeline.time_s_N)))
    return float(timeline.time_s_N[-1] + last_s)


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
