"""A stream's packets, demuxed and not decoded. Shape: P packets in file order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.decoders.h264_slices import (
    FieldReader,
    OrderReader,
    Part,
    SliceReader,
    display_ranks,
    never_shown,
)
from vxp_data.decoders.random_access import may_begin
from vxp_data.decoders.stamps import NO_STAMP
from vxp_data.errors import MediaError
from vxp_data.records import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """All packets of a stream, in file order; `NO_STAMP` where there is no timestamp."""

    pts_P: NDArray[np.int64]
    dts_P: NDArray[np.int64]
    duration_P: NDArray[np.int64]
    is_key_P: NDArray[np.bool_]
    """A decoder may begin here; see `random_access`."""
    is_discard_P: NDArray[np.bool_]
    is_second_P: NDArray[np.bool_]
    """The second field of the frame that the packet before began."""
    is_lone_P: NDArray[np.bool_]
    """A field without its other one, which the decoder does not show."""
    container: str
    """FFmpeg's name of the demuxer."""
    reordered: bool
    """Images are shown in another order than they are stored in, says the codec."""
    gradual_refresh: bool = False
    """The container takes more packets for key than those."""
    is_cut_P: NDArray[np.bool_] | None = None
    """Of a group of images of which the file holds the end alone; None: no packet is."""
    display_rank_P: NDArray[np.int64] | None = None
    """In which order they are shown, where that was read from the images."""
    by_index: bool = False
    """`is_key_P` is what the container's index says."""

    def order_is_unclear(self) -> bool:
        """Whether presentation times go back although images are shown as they are stored."""
        pts_K = self.pts_P[self.pts_P != NO_STAMP]
        return not self.reordered and bool((np.diff(pts_K) < 0).any())

    def any_stamp(self) -> bool:
        """Whether a packet has a presentation time."""
        return bool((self.pts_P != NO_STAMP).any())

    def in_fields(self) -> bool:
        """Whether some frames are stored as two packets."""
        return bool((self.is_second_P | self.is_lone_P).any())

    def open_gop(self) -> bool:
        """Whether a frame is shown before the key frame after which it is stored."""
        key_P = np.maximum.accumulate(np.where(self.is_key_P, np.arange(len(self.pts_P)), -1))
        after_key_P = key_P >= 0
        return bool((self.pts_P < self.pts_P[key_P])[after_key_P].any())


@dataclass(slots=True)
class _Lists:
    pts: list[int] = field(default_factory=list)
    dts: list[int] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_discard: list[bool] = field(default_factory=list)
    part: list[Part] = field(default_factory=list)


def read_packets(
    container: InputContainer,
    stream: VideoStream,
    max_frames: int,
    fields: FieldReader | None = None,
) -> Packets:
    """Read all packets of a stream, as far as the file is whole.

    Args:
        container: just opened.
        stream: of its own.
        max_frames: how many there may be.
        fields: tells second fields; None where there are none.

    Raises:
        MediaError: `too_large`: there are more than `max_frames`.
    """
    lists = _Lists()
    is_entry, num_marked = may_begin(stream), 0
    try:
        for packet in packets_of(container, stream):
            if packet.size == 0 and packet.dts is None:
                continue  # the end-of-stream mark
            lists.pts.append(NO_STAMP if packet.pts is None else packet.pts)
            lists.dts.append(NO_STAMP if packet.dts is None else packet.dts)
            lists.duration.append(packet.duration or 0)
            lists.is_key.append(is_entry(packet))
            num_marked += packet.is_keyframe
            lists.is_discard.append(packet.is_discard)
            lists.part.append(Part.FRAME if fields is None else fields.part(bytes(packet)))
            if len(lists.pts) > max_frames:
                raise too_many_frames(max_frames)
    except (av.FFmpegError, OSError):
        pass  # a damaged tail: what was read before it counts
    part_P = np.array(lists.part, dtype=np.uint8)
    return Packets(
        pts_P=np.array(lists.pts, dtype=np.int64),
        dts_P=np.array(lists.dts, dtype=np.int64),
        duration_P=np.array(lists.duration, dtype=np.int64),
        is_key_P=np.array(lists.is_key, dtype=np.bool_),
        is_discard_P=np.array(lists.is_discard, dtype=np.bool_),
        is_second_P=part_P == Part.SECOND,
        is_lone_P=never_shown(part_P),
        container=container.format.name.split(",")[0],
        reordered=bool(stream.codec_context.has_b_frames),
        gradual_refresh=num_marked > sum(lists.is_key),
    )


def with_display_order(packets: Packets, container: InputContainer, stream: VideoStream) -> Packets:
    """Read from the images in which order they are shown, where the codec is one that we can read.

    Args:
        packets: as read.
        container: the same file, just opened.
        stream: theirs.
    """
    extradata = stream.codec_context.extradata
    if stream.codec_context.name != "h264" or not extradata:
        return packets
    reader = OrderReader(SliceReader(extradata))
    orders: list[tuple[int, int] | None] = []
    with suppress(av.FFmpegError, OSError):  # a damaged tail
        for packet in packets_of(container, stream):
            if packet.size or packet.dts is not None:
                orders.append(reader.order(bytes(packet)))
    if len(orders) != len(packets.pts_P):
        return packets
    return replace(packets, display_rank_P=display_ranks(orders))


def packets_of(container: InputContainer, *streams: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Demux a stream, or several, from where the file stands to its end.

    In a damaged MPEG-TS further streams turn up on the way; PyAV does not know them and stops with
    an IndexError. Their packets are left out.
    """
    while True:
        try:
            yield from cast("Iterator[Packet[VideoStream]]", container.demux(*streams))
        except IndexError:
            continue
        return


def keyed_by_index(
    packets: Packets, stream: VideoStream, there: Sequence[tuple[int, int]] = ()
) -> Packets:
    """Read what is a key frame from the index: FFmpeg asks the images of some codecs.

    Args:
        packets: as read where images are missing.
        stream: theirs.
        there: byte ranges [start, stop) in which no image was missing; those say what they are.

    Raises:
        MediaError: `unsupported`: the index does not list just these packets, or takes an image for
            a key frame that is none, or the other way round.
    """
    rows = [(entry.timestamp, entry.pos, entry.size, entry.is_keyframe)
            for entry in stream.index_entries]  # fmt: skip
    dts_P, start_P, num_bytes_P, is_key_P = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    if not np.array_equal(dts_P, packets.dts_P):
        raise MediaError(Reason.UNSUPPORTED, "the index does not list every packet")
    for start, stop in there:
        seen_P = (start_P >= start) & (start_P + num_bytes_P <= stop)
        if (is_key_P != packets.is_key_P)[seen_P].any():
            raise MediaError(Reason.UNSUPPORTED, "the index is wrong about key frames")
    return replace(packets, is_key_P=is_key_P.astype(np.bool_), by_index=True)


def too_many_frames(max_frames: int) -> MediaError:
    """Build the error for a stream with more frames than are read."""
    return MediaError(Reason.TOO_LARGE, f"more than {max_frames} frames")
