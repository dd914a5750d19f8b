"""Where a decoder may begin, and gives from the first picture on what a full decode gives.

Containers and parsers mark more packets as key than those. An H.264 stream with gradual refresh has
recovery points in place of key frames: the pictures that follow one are whole only when all their
parts have been sent anew, up to seconds later, and what comes before that depends on the pictures
before. The packet itself says which it is, so nothing is decoded for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from av.packet import Packet
from av.video.stream import VideoStream

from vxp_data.decoders.nal_units import Bits, plain, units

MayBegin = Callable[["Packet[VideoStream]"], bool]

_H264_SLICES: Final = frozenset({1, 2})  # whole, or in parts
_H264_IDR: Final = 5
_H264_SEI: Final = 6
_RECOVERY_POINT: Final = 6
"""Payload type of a supplemental enhancement message (SEI)."""
_INTRA_SLICES: Final = frozenset({2, 4, 7, 9})  # I and SI, by slice_type
_HEVC_SLICES: Final = range(32)
_HEVC_IRAP: Final = range(16, 24)

_SLICE_HEAD_BYTES: Final = 32
_MPEG4_PICTURE: Final = b"\0\0\1\xb6"


def may_begin(stream: VideoStream) -> MayBegin:
    """Return what tells whether a stream's decoder may begin at a packet.

    A packet that cannot be read is what the container says it is.
    """
    codec = stream.codec_context
    if codec.name == "h263":
        return lambda packet: packet.is_keyframe and h263_begins(bytes(memoryview(packet)[:12]))
    if codec.name == "mpeg4":
        return lambda packet: packet.is_keyframe and mpeg4_begins(bytes(packet))
    begins = {"h264": h264_begins, "hevc": hevc_begins}.get(codec.name)
    if begins is None:
        return lambda packet: packet.is_keyframe
    length_bytes = _length_bytes(codec.name, bytes(codec.extradata or b""))

    def is_entry(packet: Packet[VideoStream]) -> bool:
        return packet.is_keyframe and begins(units(memoryview(packet), length_bytes))

    return is_entry


def h263_begins(head: bytes) -> bool:
    """Whether an H.263 picture is intra-coded: FFmpeg takes every one of an AVI for key.

    Args:
        head: the packet's first 12 bytes.

    Source:
        ITU-T H.263, section 5.1: PSC (22 bits), TR (8), PTYPE, PLUSPTYPE.
    """
    value = int.from_bytes(head.ljust(12, b"\0"), "big")

    def bits(at: int, num: int) -> int:
        return value >> (96 - at - num) & ((1 << num) - 1)

    if bits(0, 22) != 0b100000:
        return True
    if bits(35, 3) != 0b111:  # the source format is not 'extended'
        return bits(38, 1) == 0
    has_optional_part = bits(38, 3) == 1
    return bits(59 if has_optional_part else 41, 3) == 0


def mpeg4_begins(packet: bytes) -> bool:
    """Whether an MPEG-4 part 2 packet's first picture is intra-coded; an index may be wrong.

    FFmpeg decodes others from what lies in memory, and says nothing.

    Source:
        ISO/IEC 14496-2, 6.2.5: vop_coding_type, two bits behind the start code 000001B6.
    """
    at = packet.find(_MPEG4_PICTURE)
    return at < 0 or at + 4 >= len(packet) or packet[at + 4] >> 6 == 0


def h264_begins(units: Iterator[bytes]) -> bool:
    """Whether a key packet's picture is whole: an IDR, or a recovery point that needs no time.

    Args:
        units: the packet's NAL units; they are read up to the first slice.
    """
    num_frames: int | None = None
    for unit in units:
        kind = unit[0] & 31
        if kind == _H264_IDR:
            return True
        if kind == _H264_SEI and num_frames is None:
            num_frames = recovery_frames(unit)
        elif kind in _H264_SLICES:
            if num_frames is not None:
                return num_frames == 0
            bits = Bits(plain(unit[1:_SLICE_HEAD_BYTES]))
            try:
                bits.ue()  # first_mb_in_slice
                return bits.ue() in _INTRA_SLICES
            except IndexError:
                return False
    return True


def hevc_begins(units: Iterator[bytes]) -> bool:
    """Whether a key packet's picture is one at which decoders may begin; `units` as above."""
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind in _HEVC_SLICES:
            return kind in _HEVC_IRAP
    return True


def recovery_frames(sei: bytes) -> int | None:
    """Return `recovery_frame_cnt` of a recovery point among SEI messages; None: there is none.

    Args:
        sei: the NAL unit, with its header byte.
    """
    data = plain(sei)
    at = 1
    while at + 2 < len(data):  # behind the last message one byte is left: the trailing bits
        kind, at = _sum_of_bytes(data, at)
        num_bytes, at = _sum_of_bytes(data, at)
        if kind == _RECOVERY_POINT:
            try:
                return Bits(data[at : at + num_bytes]).ue()
            except IndexError:
                return 0
        at += num_bytes
    return None


def _sum_of_bytes(data: bytes, at: int) -> tuple[int, int]:
    """Read a number written as a row of 255s and a rest; return it, and where it ends."""
    start = at
    while at < len(data) - 1 and data[at] == 255:
        at += 1
    return sum(data[start : at + 1]), at + 1


def _length_bytes(codec: str, extradata: bytes) -> int:
    """Return how many bytes hold each NAL unit's length; 0 where start codes part them."""
    at = {"h264": 4, "hevc": 21}[codec]
    # A configuration record begins with its version, 1; parameter sets with start codes with 0.
    return (extradata[at] & 3) + 1 if len(extradata) > at and extradata[0] == 1 else 0
