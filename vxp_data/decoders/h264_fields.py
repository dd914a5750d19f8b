"""Which packets of an H.264 stream hold the second field of a frame (PAFF: 1080i, AVCHD).

FFmpeg gives such fields as packets of their own, and a frame for two of them. What a picture is
stands in its slice headers (ITU-T H.264, 7.3.3) and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

_START: Final = b"\0\0\1"
_HEADER_BYTES: Final = 64
"""Enough for a slice header as far as it is read here."""
_SLICE, _SLICE_PART_A, _SLICE_IDR, _SPS, _PPS = 1, 2, 5, 7, 8
_NUM_NOT_SHOWN: Final = 2
_WITH_CHROMA_FORMAT: Final = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134})
"""Profiles whose parameter sets say more."""


class _Bits:
    """Reads the bits of a NAL unit's payload; an IndexError where it ends."""

    def __init__(self, payload: bytes) -> None:
        plain = payload.replace(b"\0\0\3", b"\0\0")  # without emulation prevention
        self._value = int.from_bytes(plain, "big")
        self._left = 8 * len(plain)

    def u(self, width: int) -> int:
        """Read an unsigned number of so many bits."""
        self._left -= width
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & (1 << width) - 1

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


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
    frames_only: bool
    separate_planes: bool


@dataclass(frozen=True, slots=True)
class _Field:
    is_bottom: bool
    frame_num: int


class FieldReader:
    """Reads a stream's packets in file order.

    Args:
        extradata: the stream's parameter sets, as 'avcC' or as Annex B has them.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sps: dict[int, _Sps] = {}
        self._sps_of_pps: dict[int, int] = {}
        self._open: _Field | None = None
        """A first field, whose second has not come."""
        self._length_bytes = 0
        if extradata[:1] == b"\1" and len(extradata) > 6:
            self._length_bytes = (extradata[4] & 3) + 1
            nals = _parameter_sets(extradata)
        else:
            nals = _annex_b(extradata)
        for nal in nals:
            self._read(nal)

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> Self | None:
        """Return a reader for a stream that may hold fields; None for any other."""
        if codec != "h264" or not extradata:
            return None
        reader = cls(extradata)
        return reader if any(not sps.frames_only for sps in reader._sps.values()) else None

    def part(self, packet: bytes) -> Part:
        """Return what of a frame a packet holds."""
        fields = [found for nal in self._nals(packet) if (found := self._read(nal)) is not None]
        first, before = (fields[0] if fields else None), self._open
        joins = first is not None and _are_pair(before, first)
        last = fields[-1] if fields else None
        both = any(_are_pair(first, other) for other in fields)
        self._open = None if joins or both else last
        return Part.SECOND if joins else Part.FIRST if self._open is not None else Part.FRAME

    def _nals(self, packet: bytes) -> Iterator[bytes]:
        return _annex_b(packet) if not self._length_bytes else _prefixed(packet, self._length_bytes)

    def _read(self, nal: bytes) -> _Field | None:
        """Note a parameter set; of a slice, return its field, None where it is a frame's."""
        kind = nal[0] & 31 if nal else 0
        try:
            if kind == _SPS:
                number, sps = _read_sps(_Bits(nal[1:]))
                self._sps[number] = sps
            elif kind == _PPS:
                bits = _Bits(nal[1:_HEADER_BYTES])
                pps_id = bits.ue()
                self._sps_of_pps[pps_id] = bits.ue()
            elif kind in (_SLICE, _SLICE_PART_A, _SLICE_IDR):
                return self._field(_Bits(nal[1:_HEADER_BYTES]))
        except (IndexError, KeyError):
            pass  # damaged: taken for a frame, as which it counts
        return None

    def _field(self, bits: _Bits) -> _Field | None:
        bits.ue()  # first macroblock
        bits.ue()  # slice type
        sps = self._sps[self._sps_of_pps[bits.ue()]]
        if sps.frames_only:
            return None
        if sps.separate_planes:
            bits.u(2)
        frame_num = bits.u(sps.frame_num_bits)
        is_field = bits.u(1)
        return _Field(is_bottom=bool(bits.u(1)), frame_num=frame_num) if is_field else None


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


def _are_pair(first: _Field | None, second: _Field) -> bool:
    """Whether two fields that follow each other are one frame: other lines, the same number."""
    return (
        first is not None
        and first.is_bottom != second.is_bottom
        and first.frame_num == second.frame_num
    )


def _read_sps(bits: _Bits) -> tuple[int, _Sps]:
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
    order_type = bits.ue()
    if order_type == 0:
        bits.ue()
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
    return number, _Sps(frame_num_bits, bool(bits.u(1)), separate_planes)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
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


def _prefixed(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(packet):
        size = int.from_bytes(packet[at : at + length_bytes], "big")
        at += length_bytes
        yield packet[at : at + size]
        at += size


def _annex_b(data: bytes) -> Iterator[bytes]:
    at = data.find(_START)
    while at >= 0:
        following = data.find(_START, at + 3)
        yield data[at + 3 : following if following >= 0 else len(data)]
        at = following
