"""Which of a file's video streams is the video: not a cover, a preview or a low rung."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from vxp_data.decoders.packets import packets_of
from vxp_data.errors import MediaError
from vxp_data.records import Reason

_NOT_THE_VIDEO: Final = (
    Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
)


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the streams that may be the video: not those marked as pictures beside it."""
    return [
        stream
        for stream in container.streams
        if isinstance(stream, VideoStream) and not stream.disposition & _NOT_THE_VIDEO
    ]


def needs_count(streams: Sequence[VideoStream]) -> bool:
    """Whether the header leaves open which streams have more than one frame."""
    return len(streams) > 1 and any(stream.frames <= 1 for stream in streams)


def count_frames(
    container: InputContainer, streams: Sequence[VideoStream], max_frames: int
) -> Counter[int]:
    """Count the frames of some streams, by index, as far as the file is whole.

    Args:
        container: where it stands afterwards is not said.
        streams: of it; the others are not read.
        max_frames: as many are counted, of all streams together.
    """
    counted: Counter[int] = Counter()
    _read_only(container, streams)
    try:
        for packet in packets_of(container, *streams):
            if packet.size and not packet.is_discard:
                counted[packet.stream_index] += 1
            if counted.total() >= max_frames:
                break
    except (av.FFmpegError, OSError):
        pass  # a damaged tail: what was read before it counts
    return counted


def choose(
    container: InputContainer, streams: Sequence[VideoStream], counted: Counter[int], *, image: bool
) -> VideoStream:
    """Choose the stream that is the video; the demuxer then drops the packets of all others.

    In this order: one that can be decoded; more than one frame; marked as default; most pixels;
    most frames; the first. Of an image file the picture that is marked, however many frames.

    Args:
        container: an open file.
        streams: its `video_streams`.
        counted: frames by stream index; those not in it have as many as the header says.
        image: whether a still image is wanted.

    Raises:
        MediaError: there is none, or none that can be decoded.
    """
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        message = f"{container.format.name} with {kinds or 'no stream at all'}"
        raise MediaError(Reason.NO_VIDEO_STREAM, message)

    def rank(stream: VideoStream) -> tuple[bool, bool, bool, int, int]:
        codec = stream.codec_context
        num_frames = counted.get(stream.index, 0) if counted else stream.frames
        return (
            codec is not None,
            not image and num_frames > 1,
            bool(stream.disposition & Disposition.default),
            codec.width * codec.height if codec is not None else 0,
            num_frames,
        )

    return take(container, max(streams, key=rank).index)


def take(container: InputContainer, index: int) -> VideoStream:
    """Return the video stream of an index; the demuxer drops the packets of all others.

    Raises:
        MediaError: it cannot be decoded, or the file has another stream there than it had.
    """
    stream = container.streams[index] if index < len(container.streams) else None
    if not isinstance(stream, VideoStream):
        raise MediaError(Reason.CORRUPT, f"stream {index} is no video stream any more")
    if stream.codec_context is None:
        raise MediaError(Reason.UNSUPPORTED, f"no decoder for stream {index}")
    _read_only(container, [stream])
    return stream


def _read_only(container: InputContainer, streams: Sequence[VideoStream]) -> None:
    """Let the demuxer drop the packets of all other streams before they reach Python."""
    wanted = {stream.index for stream in streams}
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = Discard.all
