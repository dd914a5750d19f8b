"""What an H.264 stream's slice headers tell of its pictures (ITU-T H.264, 7.3.3).

Which packets hold the second field of a frame (PAFF: 1080i, AVCHD): FFmpeg gives such fields as
packets of their own, and a frame for two of them. And in which order pictures are shown, where
timestamps do not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.nal_units import Bits, plain, units

_HEADER_BYTES: Final = 64
"""Enough for a slice header as far as it is read here."""
_SLICE, _SLICE_PART_A, _SLICE_IDR, _SPS, _PPS = 1, 2, 5, 7, 8
_NUM_NOT_SHOWN: Final = 2
_MOST_REORDERED: Final = 2 * 16
"""Packets: 16 frames, the most that a decoder holds (A.3.1), of two fields each."""
_ORDER_OF_CYCLES, _ORDER_AS_STORED = 1, 2
"""pic_order_cnt_type; the first is of encoders long gone."""
_WITH_CHROMA_FORMAT: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134})
"""Profiles whose parameter sets say more."""


class Part(IntEnum):
    """What of a frame a packet holds."""

    FRAME = 0
    """All of it, both fields too."""
    FIRST = 1
    SECOND = 2
    """The other field of the packet before."""


@dataclass(frozen=True, slots=True)
class _Sps:
    """What of a sequence parameter set is needed to read a slice header."""

    frame_num_bits: int
    order_type: int
    order_bits: int
    frames_only: bool
    separate_planes: bool


@dataclass(frozen=True, slots=True)
class _Slice:
    """What a slice header tells of its picture."""

    is_field: bool
    is_bottom: bool
    is_idr: bool
    is_reference: bool
    frame_num: int
    order_type: int
    order_lsb: int
    """The low bits of its order count, of type 0."""
    order_modulus: int


class SliceReader:
    """Reads a stream's packets in file order.

    Args:
        extradata: the stream's parameter sets, as 'avcC' or as Annex B has them.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sps: dict[int, _Sps] = {}
        self._sps_of_pps: dict[int, int] = {}
        self._length_bytes = 0
        if extradata[:1] == b"\1" and len(extradata) > 6:
            self._length_bytes = (extradata[4] & 3) + 1
            nals = _parameter_sets(extradata)
        else:
            nals = units(extradata, 0)
        for nal in nals:
            self._read(nal)

    def may_hold_fields(self) -> bool:
        """Whether a parameter set allows them: frame_mbs_only_flag is 0."""
        return any(not sps.frames_only for sps in self._sps.values())

    def slices(self, packet: bytes) -> list[_Slice]:
        """Return what the headers of a packet's slices tell; damaged ones tell nothing."""
        return [
            found
            for nal in units(packet, self._length_bytes)
            if (found := self._read(nal)) is not None
        ]

    def _read(self, nal: bytes) -> _Slice | None:
        """Note a parameter set; of a slice, return its header."""
        kind = nal[0] & 31 if nal else 0
        try:
            if kind == _SPS:
                number, sps = _read_sps(Bits(plain(nal[1:])))
                self._sps[number] = sps
            elif kind == _PPS:
                bits = Bits(plain(nal[1:_HEADER_BYTES]))
                pps_id = bits.ue()
                self._sps_of_pps[pps_id] = bits.ue()
            elif kind in (_SLICE, _SLICE_PART_A, _SLICE_IDR):
                return self._slice(
                    Bits(plain(nal[1:_HEADER_BYTES])), kind == _SLICE_IDR, nal[0] >> 5 & 3
                )
        except (IndexError, KeyError):
            pass
        return None

    def _slice(self, bits: Bits, is_idr: bool, reference: int) -> _Slice:
        bits.ue()  # first macroblock
        bits.ue()  # slice type
        sps = self._sps[self._sps_of_pps[bits.ue()]]
        if sps.separate_planes:
            bits.u(2)
        frame_num = bits.u(sps.frame_num_bits)
        is_field = not sps.frames_only and bool(bits.u(1))
        is_bottom = is_field and bool(bits.u(1))
        if is_idr:
            bits.ue()
        return _Slice(
            is_field=is_field,
            is_bottom=is_bottom,
            is_idr=is_idr,
            is_reference=reference > 0,
            frame_num=frame_num,
            order_type=sps.order_type,
            order_lsb=bits.u(sps.order_bits),
            order_modulus=1 << sps.order_bits,
        )


class FieldReader:
    """Tells, packet after packet, what of a frame each holds."""

    def __init__(self, slices: SliceReader) -> None:
        self._slices = slices
        self._open: _Slice | None = None
        """A first field, whose second has not come."""

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> Self | None:
        """Return a reader for a stream that may hold fields; None for any other."""
        if codec != "h264" or not extradata:
            return None
        slices = SliceReader(extradata)
        return cls(slices) if slices.may_hold_fields() else None

    def part(self, packet: bytes) -> Part:
        """Return what of a frame a packet holds."""
        fields = [found for found in self._slices.slices(packet) if found.is_field]
        if not fields:  # a damaged one is taken for a frame, as which it counts
            self._open = None
            return Part.FRAME
        first = fields[0]
        if _are_pair(self._open, first):
            self._open = None
            return Part.SECOND
        if any(_are_pair(first, other) for other in fields):
            self._open = None
            return Part.FRAME
        self._open = fields[-1]
        return Part.FIRST


class OrderReader:
    """Tells, packet after packet, the order in which pictures are shown (8.2.1).

    An operation that sets the count back in the middle of a group (MMCO 5) is not read:
    `display_ranks` sees by what comes of it that the order is not to be trusted.
    """

    def __init__(self, slices: SliceReader) -> None:
        self._slices = slices
        self._group = 0
        self._reference = (0, 0)
        """High and low bits of the last reference picture's count."""

    def order(self, packet: bytes) -> tuple[int, int] | None:
        """Return (group, count), to be compared within a stream; None where it is not told."""
        found = next(iter(self._slices.slices(packet)), None)
        if found is None or found.order_type == _ORDER_OF_CYCLES:
            return None
        if found.is_idr or found.order_type == _ORDER_AS_STORED:
            self._group += 1
            self._reference = (0, 0)
        high, low = self._reference
        lsb = found.order_lsb
        half = found.order_modulus // 2
        if lsb < low and low - lsb >= half:
            high += found.order_modulus
        elif lsb > low and lsb - low > half:
            high -= found.order_modulus
        if found.is_reference:
            self._reference = (high, lsb)
        return self._group, high + lsb


def display_ranks(orders: Sequence[tuple[int, int] | None]) -> NDArray[np.int64] | None:
    """Rank packets by the order in which their pictures are shown.

    Args:
        orders: of each packet, in file order.

    Returns:
        None where the order cannot be trusted: one is missing, or one would be shown further from
        where it is stored than decoders hold images back.
    """
    known = [order for order in orders if order is not None]
    if len(known) < len(orders):
        return None
    by_order = sorted(range(len(known)), key=lambda position: known[position])
    rank_P = np.empty(len(known), dtype=np.int64)
    rank_P[by_order] = np.arange(len(known))
    away_P = np.abs(rank_P - np.arange(len(known)))
    return rank_P if away_P.max(initial=0) <= _MOST_REORDERED else None


def never_shown(part_P: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which packets hold a field alone that FFmpeg does not show, as its other one is lost.

    It shows such fields from the third in a row on: there may be no others in the stream.
    """
    is_lone_P = (part_P == Part.FIRST) & (np.append(part_P[1:], 0) != Part.SECOND)
    hidden_P = np.zeros(len(part_P), dtype=np.bool_)
    in_a_row = 0
    for position in np.flatnonzero(part_P):
        in_a_row = in_a_row + 1 if is_lone_P[position] else 0
        hidden_P[position] = 0 < in_a_row <= _NUM_NOT_SHOWN
    return hidden_P


def _are_pair(first: _Slice | None, second: _Slice) -> bool:
    """Whether two fields that follow each other are one frame: other lines, the same number."""
    return (
        first is not None
        and first.is_bottom != second.is_bottom
        and first.frame_num == second.frame_num
    )


def _read_sps(bits: Bits) -> tuple[int, _Sps]:
    """Read a sequence parameter set (7.3.2.1.1) up to frame_mbs_only_flag; return its id too."""
    profile = bits.u(8)
    bits.u(16)
    number = bits.ue()
    separate_planes = False
    if profile in _WITH_CHROMA_FORMAT:
        chroma_format = bits.ue()
        separate_planes = chroma_format == 3 and bool(bits.u(1))
        bits.ue()  # bit depths
        bits.ue()
        bits.u(1)
        if bits.u(1):
            for i in range(12 if chroma_format == 3 else 8):
                if bits.u(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_num_bits = bits.ue() + 4
    order_type, order_bits = bits.ue(), 0
    if order_type == 0:
        order_bits = bits.ue() + 4
    elif order_type == 1:
        bits.u(1)
        bits.se()
        bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue()  # reference frames
    bits.u(1)
    bits.ue()  # width and height
    bits.ue()
    frames_only = bool(bits.u(1))
    return number, _Sps(frame_num_bits, order_type, order_bits, frames_only, separate_planes)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _parameter_sets(avcc: bytes) -> Iterator[bytes]:
    """Walk the parameter sets of an 'avcC' (ISO/IEC 14496-15)."""
    at, counts = 5, (avcc[5] & 31, 0)
    for i in range(2):
        count = counts[0] if i == 0 else (avcc[at] if at < len(avcc) else 0)
        at += 1
        for _ in range(count):
            size = int.from_bytes(avcc[at : at + 2], "big")
            yield avcc[at + 2 : at + 2 + size]
            at += 2 + size
