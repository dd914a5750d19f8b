"""A stream's packets, demuxed and not decoded, and the timeline that follows from them.

Shapes: P packets in file order, N frames in presentation order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.core.timeline import frame_times
from vxp_data.decoders.base import Timeline
from vxp_data.decoders.random_access import may_begin
from vxp_data.errors import MediaError
from vxp_data.records import Reason

_NO_PTS: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """All packets of a stream, in file order; `_NO_PTS` where there is no timestamp."""

    pts_P: NDArray[np.int64]
    dts_P: NDArray[np.int64]
    duration_P: NDArray[np.int64]
    is_key_P: NDArray[np.bool_]
    """A decoder may begin here; see `random_access`."""
    is_discard_P: NDArray[np.bool_]
    gradual_refresh: bool = False
    """The container takes more packets for key than those."""
    by_index: bool = False
    """`is_key_P` is what the container's index says."""

    def timeline(self, time_base: Fraction, nominal_fps: float) -> Timeline:
        """Order the presented frames, and find for each the key frame to decode from."""
        presented_P = ~self.is_discard_P
        if not self._timed():
            num_frames = int(presented_P.sum())
            index_N = np.arange(num_frames, dtype=np.int64)
            # Without times there is nothing to seek by: every frame is decoded from packet 0 on.
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
        # Packets to discard (before an edit list's beginning) are decoded, as others may need them,
        # and never shown.
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
            by_index=self.by_index,
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
        # A loop is cheap: these are leading images alone, a few to a key frame at most.
        for late in np.flatnonzero(start_P > np.arange(len(start_P))):
            key_K = np.flatnonzero(self.is_key_P[:late])
            key_K = key_K[self.pts_P[key_K] <= self.pts_P[late]]
            start_P[late] = key_K[-1] if len(key_K) else 0
        return start_P


@dataclass(slots=True)
class _Lists:
    pts: list[int] = field(default_factory=list)
    dts: list[int] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_discard: list[bool] = field(default_factory=list)


def read_packets(container: InputContainer, stream: VideoStream, max_frames: int) -> Packets:
    """Read all packets of a stream, as far as the file is whole.

    Raises:
        MediaError: `too_large`: there are more than `max_frames`.
    """
    lists = _Lists()
    is_entry, num_marked = may_begin(stream), 0
    try:
        for packet in packets_of(container, stream):
            if packet.size == 0 and packet.dts is None:
                continue  # the end-of-stream mark
            lists.pts.append(_NO_PTS if packet.pts is None else packet.pts)
            lists.dts.append(_NO_PTS if packet.dts is None else packet.dts)
            lists.duration.append(packet.duration or 0)
            lists.is_key.append(is_entry(packet))
            num_marked += packet.is_keyframe
            lists.is_discard.append(packet.is_discard)
            if len(lists.pts) > max_frames:
                raise too_many_frames(max_frames)
    except (av.FFmpegError, OSError):
        pass  # a damaged tail: what was read before it counts
    return Packets(
        pts_P=np.array(lists.pts, dtype=np.int64),
        dts_P=np.array(lists.dts, dtype=np.int64),
        duration_P=np.array(lists.duration, dtype=np.int64),
        is_key_P=np.array(lists.is_key, dtype=np.bool_),
        is_discard_P=np.array(lists.is_discard, dtype=np.bool_),
        gradual_refresh=num_marked > sum(lists.is_key),
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
