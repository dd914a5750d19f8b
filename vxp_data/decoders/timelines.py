"""The timeline that follows from a stream's packets: which frames are shown, in which order, when.

The file's own timestamps are used as far as they are sound. What is wrong with them is mended where
it is, and said in the timeline's note; a stream without usable ones goes by its nominal rate.

Shapes: P packets in file order, M pictures (packets, but for second fields), N presented frames.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.timeline import frame_times
from vxp_data.decoders.base import MendedStamps, Timeline
from vxp_data.decoders.beginnings import RECORDED
from vxp_data.decoders.packets import Packets
from vxp_data.decoders.stamps import NO_STAMP, RisingStamps, clock_jumps, rising

_NO_PTS_IN: Final = frozenset({"avi", "h264", "hevc", "m4v", "mpegvideo"})
"""Containers that store no presentation times; FFmpeg's own are at times in decode order."""
_LONGEST_STEP_S: Final = 10
"""From packet to packet, seconds; ffmpeg's `dts_delta_threshold`. What is beyond is another
recording's clock: these containers are joined anywhere."""


def timeline_of(packets: Packets, time_base: Fraction, nominal_fps: float) -> Timeline:
    """Order the presented frames, give them times, and find the key frame to decode each from.

    Args:
        packets: at least one without the discard flag.
        time_base: seconds a tick.
        nominal_fps: the rate to go by where there is nothing else, frames a second.
    """
    notes: list[str] = []
    own = packets
    is_picture_P = ~packets.is_second_P & ~packets.is_lone_P
    if packets.container in RECORDED:
        packets, jumped = _without_jumps(packets, time_base)
        notes += [jumped] if jumped else []
    if packets.is_cut_P is not None and packets.is_cut_P.any():
        is_picture_P &= ~packets.is_cut_P
        num_cut = int(packets.is_cut_P.sum())
        notes.append(f"begins in the middle of a group of images: {num_cut} packets left out")
    is_shown_P = is_picture_P & ~packets.is_discard_P
    if not is_shown_P.any():  # the decoder then tells that none comes
        is_picture_P, is_shown_P = np.ones_like(is_picture_P), ~packets.is_discard_P
    if _is_sound(packets, is_picture_P):
        stamps = RisingStamps(stamp_N=packets.pts_P[is_picture_P], scale=1, num_moved=0)
        as_stored = packets is own and bool(is_picture_P.all())
        position_M = np.flatnonzero(is_picture_P)
        timeline = _by_stamp(own, stamps, time_base, position_M, as_stored=as_stored)
    else:
        timeline = _mended(packets, own, is_shown_P, time_base, nominal_fps)
    notes += [timeline.note] if timeline.note else []
    return replace(timeline, note="; ".join(notes))


def _without_jumps(packets: Packets, time_base: Fraction) -> tuple[Packets, str]:
    """Make each jump of the clock one frame's duration; say how much that took out."""
    dts_P = np.where(packets.dts_P == NO_STAMP, packets.pts_P, packets.dts_P)
    jumps = clock_jumps(dts_P, int(_LONGEST_STEP_S / time_base))
    if jumps is None:
        return packets, ""
    total_s = float(jumps.total_ticks * time_base)
    moved = replace(
        packets,
        pts_P=np.where(packets.pts_P == NO_STAMP, NO_STAMP, packets.pts_P - jumps.offset_P),
        dts_P=np.where(packets.dts_P == NO_STAMP, NO_STAMP, packets.dts_P - jumps.offset_P),
    )
    return moved, f"the clock jumps {jumps.num_jumps} times, {total_s:.3f} s in all: taken out"


def _is_sound(packets: Packets, is_picture_P: NDArray[np.bool_]) -> bool:
    """Whether timestamps are complete, unique and, in decode order, never go back."""
    pts_M = packets.pts_P[is_picture_P]
    if (pts_M == NO_STAMP).any() or len(np.unique(pts_M)) < len(pts_M):
        return False
    dts_M = packets.dts_P[is_picture_P]
    if (np.diff(dts_M[dts_M != NO_STAMP]) < 0).any():
        return False
    if packets.display_rank_P is not None:
        order_M = np.argsort(packets.display_rank_P[is_picture_P], kind="stable")
        return bool((np.diff(pts_M[order_M]) > 0).all())
    return not (_invents_pts(packets) and (np.diff(pts_M) > 0).all())


def _invents_pts(packets: Packets) -> bool:
    """Whether the presentation times of images out of order are not the file's."""
    return packets.reordered and packets.container in _NO_PTS_IN


def _mended(
    packets: Packets,
    own: Packets,
    is_shown_P: NDArray[np.bool_],
    time_base: Fraction,
    nominal_fps: float,
) -> Timeline:
    """Make a timeline of timestamps that are wrong here and there; of the rate, if everywhere.

    Where only the decoder knows the order of the frames, they are counted as they come out, and
    have the timestamps in their order.
    """
    order_M = _display_order(packets, is_shown_P)
    if order_M is not None:
        pts_M = packets.pts_P[order_M]
    else:
        pts_M = packets.pts_P[is_shown_P]
        if (pts_M == NO_STAMP).any():  # it would be left open whose is missing
            return _by_rate(packets, is_shown_P, nominal_fps)
    if order_M is None or _invents_pts(packets):
        pts_M = np.sort(pts_M)
    stamps = rising(pts_M, _usual_gap(pts_M))
    if stamps is None:
        return _by_rate(packets, is_shown_P, nominal_fps)
    if order_M is None:
        tick_s = float(time_base / stamps.scale)
        timeline = _counted(packets, stamps.stamp_N, tick_s, is_shown_P)
    else:
        timeline = _by_stamp(own, stamps, time_base, order_M, as_stored=False)
    return replace(timeline, note=_what_was_mended(packets, stamps))


def _display_order(packets: Packets, is_shown_P: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """Return the positions of frames in the order they are shown in; None where nobody knows."""
    position_M = np.flatnonzero(is_shown_P)
    if packets.display_rank_P is not None:
        return position_M[np.argsort(packets.display_rank_P[position_M], kind="stable")]
    return None if packets.reordered else position_M


def _what_was_mended(packets: Packets, stamps: RisingStamps) -> str:
    if stamps.num_moved:
        return (
            f"{stamps.num_moved} of {len(stamps.stamp_N)} timestamps missing, repeated or going"
            " back: put between their neighbours"
        )
    if _invents_pts(packets):
        return f"{packets.container} stores no presentation times: in the decoder's order"
    return ""


def _usual_gap(pts_M: NDArray[np.int64]) -> int:
    gap_M = np.diff(pts_M[pts_M != NO_STAMP])
    gap_M = gap_M[gap_M > 0]
    return int(np.median(gap_M)) if len(gap_M) else 1


def _by_stamp(
    own: Packets,
    stamps: RisingStamps,
    time_base: Fraction,
    position_M: NDArray[np.int64],
    *,
    as_stored: bool,
) -> Timeline:
    """Build the timeline of frames that are recognised by their packets' timestamps.

    Args:
        own: with the file's timestamps, by which a seek goes.
        stamps: of the pictures, unique.
        time_base: of the file's timestamps.
        position_M: their packets.
        as_stored: `stamps` are the file's.
    """
    stamp_P = np.full(len(own.pts_P), NO_STAMP, dtype=np.int64)
    stamp_P[position_M] = stamps.stamp_N
    is_picture_P = np.zeros(len(stamp_P), dtype=np.bool_)
    is_picture_P[position_M] = True
    is_second_P = own.is_second_P
    stamp_P[is_second_P] = np.roll(stamp_P, 1)[is_second_P]
    is_key_P = own.is_key_P & is_picture_P
    order_P = np.argsort(stamp_P, kind="stable")
    start_P = _start_positions(stamp_P, is_key_P, order_P)
    if not as_stored:
        start_P = np.where(_can_be_sought(own)[start_P], start_P, 0)
    # Packets to discard (before an edit list's beginning) are decoded, as others may need them,
    # and never shown.
    is_shown_P = is_picture_P & ~own.is_discard_P
    first_N = order_P[is_shown_P[order_P]]
    pts_N = stamp_P[first_N]
    tick_s = float(time_base / stamps.scale)
    return Timeline(
        pts_N=pts_N,
        tick_s=tick_s,
        time_s_N=frame_times(pts_N, tick_s),
        is_key_N=is_key_P[first_N],
        position_N=first_N + np.append(is_second_P[1:], False)[first_N],
        start_position_N=start_P[first_N],
        start_pts_N=own.pts_P[start_P[first_N]],
        start_dts_N=np.where(own.dts_P == NO_STAMP, own.pts_P, own.dts_P)[start_P[first_N]],
        timed=True,
        by_index=own.by_index,
        mended=None if as_stored else MendedStamps(stamp_P=stamp_P, stored_P=own.pts_P),
    )


def _can_be_sought(own: Packets) -> NDArray[np.bool_]:
    """Whether a packet's timestamp is there and is no other packet's."""
    _, place_P, count_P = np.unique(own.pts_P, return_inverse=True, return_counts=True)
    is_one_P: NDArray[np.bool_] = (count_P[place_P] == 1) & (own.pts_P != NO_STAMP)
    return is_one_P


def _by_rate(packets: Packets, is_shown_P: NDArray[np.bool_], nominal_fps: float) -> Timeline:
    index_N = np.arange(int(is_shown_P.sum()), dtype=np.int64)
    timeline = _counted(packets, index_N, 1 / nominal_fps, is_shown_P)
    note = f"no usable timestamps: {nominal_fps:g} frames a second, as the header has it"
    return replace(timeline, by_rate=True, note=note)


def _counted(
    packets: Packets, pts_N: NDArray[np.int64], tick_s: float, is_shown_P: NDArray[np.bool_]
) -> Timeline:
    # Nothing tells which packet holds which frame: every frame is decoded from packet 0 on.
    zero_N = np.zeros(len(pts_N), dtype=np.int64)
    return Timeline(
        pts_N=pts_N,
        tick_s=tick_s,
        time_s_N=frame_times(pts_N, tick_s),
        is_key_N=packets.is_key_P[is_shown_P],
        position_N=np.flatnonzero(is_shown_P),
        start_position_N=zero_N,
        start_pts_N=zero_N,
        start_dts_N=zero_N,
        timed=False,
    )


def _start_positions(
    stamp_P: NDArray[np.int64], is_key_P: NDArray[np.bool_], order_P: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find, for each packet, the last key packet not after it in both orders; else packet 0.

    Presentation order alone would do in a sound stream; a leading image (presented before its key
    frame, stored after it) needs the key frame before.
    """
    key_index_P = np.where(is_key_P[order_P], np.arange(len(order_P)), -1)
    last_key_P = np.maximum.accumulate(key_index_P)
    start_P = np.zeros(len(order_P), dtype=np.int64)
    start_P[order_P] = np.where(last_key_P >= 0, order_P[last_key_P], 0)
    # A loop is cheap: these are leading images alone, a few to a key frame at most.
    for late in np.flatnonzero(start_P > np.arange(len(start_P))):
        key_K = np.flatnonzero(is_key_P[:late])
        key_K = key_K[stamp_P[key_K] <= stamp_P[late]]
        start_P[late] = key_K[-1] if len(key_K) else 0
    return start_P
