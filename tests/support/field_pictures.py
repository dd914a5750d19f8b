"""H.264 whose pictures are fields or frames as one likes; FFmpeg's encoders write no fields.

Every macroblock is I_PCM, so that a stream needs no prediction and no entropy coding: what a
picture shows is what was written. It carries its number: block k from the left (16 px wide, from
the top to the bottom) is white where bit k of the number is set.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH_PX: Final = 160
HEIGHT_PX: Final = 64
_BLACK, _WHITE, _GREY = 30, 220, 128


@dataclass(frozen=True, slots=True)
class Picture:
    """One coded picture: a frame, or one field of it."""

    number: int
    """What it shows."""
    structure: str = "frame"
    """'frame', 'top' or 'bottom'."""
    is_idr: bool = False
    is_reference: bool = True
    frame_num: int = 0
    order: int = 0
    """Of the frame in its group, in presentation order."""


class _Bits:
    def __init__(self) -> None:
        self._bits = ""

    def u(self, width: int, value: int) -> None:
        self._bits += format(value, f"0{width}b") if width else ""

    def ue(self, value: int) -> None:
        code = format(value + 1, "b")
        self._bits += "0" * (len(code) - 1) + code

    def aligned(self) -> bytes:
        """Take what was written so far, filled up with zeros."""
        self._bits += "0" * (-len(self._bits) % 8)
        return int("1" + self._bits, 2).to_bytes(len(self._bits) // 8 + 1, "big")[1:]


def _nal(kind: int, reference: int, payload: bytes) -> bytes:
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([reference << 5 | kind]) + bytes(escaped)


def parameter_sets(*, reorder: int = 0, interlaced: bool = True) -> bytes:
    """Write SPS and PPS, Annex B; 25 frames a second.

    Args:
        reorder: how many frames a decoder holds back.
        interlaced: whether fields are allowed: frame_mbs_only_flag 0.
    """
    sps = _Bits()
    for width, value in ((8, 77), (8, 0), (8, 30)):  # Main profile, level 3
        sps.u(width, value)
    # id, frame_num of 8 bits, order count of type 0 and 8 bits, 4 reference frames
    for value in (0, 4, 0, 4, 4):
        sps.ue(value)
    sps.u(1, 0)
    sps.ue(WIDTH_PX // 16 - 1)
    sps.ue(HEIGHT_PX // (32 if interlaced else 16) - 1)
    sps.u(1, not interlaced)
    if interlaced:
        sps.u(1, 0)  # no mixing of fields and frames within a picture
    for flag in (1, 0, 1):  # direct_8x8_inference, no cropping, VUI
        sps.u(1, flag)
    for width, value in ((1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (32, 1), (32, 50), (1, 1)):
        sps.u(width, value)  # timing: 50 fields a second
    for flag in (0, 0, 0, 1, 1):
        sps.u(1, flag)
    for value in (0, 0, 10, 10, reorder, 4):
        sps.ue(value)
    sps.u(1, 1)
    pps = _Bits()
    for value in (0, 0):
        pps.ue(value)
    pps.u(2, 0)
    for value in (0, 0, 0):
        pps.ue(value)
    pps.u(3, 0)
    for value in (0, 0, 0):  # signed zeros
        pps.ue(value)
    for flag in (1, 0, 0, 1):  # deblocking can be switched off
        pps.u(1, flag)
    return _nal(7, 3, sps.aligned()) + _nal(8, 3, pps.aligned())


def coded(picture: Picture, *, interlaced: bool = True) -> bytes:
    """Write one picture as one slice, Annex B."""
    bits = _Bits()
    bits.ue(0)
    bits.ue(7)
    bits.ue(0)
    bits.u(8, picture.frame_num % 256)
    is_field = picture.structure != "frame"
    if interlaced:
        bits.u(1, is_field)
    if is_field:
        bits.u(1, picture.structure == "bottom")
    if picture.is_idr:
        bits.ue(picture.number % 2)  # neighbouring ones have to differ
    bits.u(8, (2 * picture.order + (picture.structure == "bottom")) % 256)
    if picture.is_reference:
        bits.u(2 if picture.is_idr else 1, 0)
    bits.ue(0)
    bits.ue(1)  # no deblocking
    blocks = [_WHITE if picture.number >> k & 1 else _BLACK for k in range(WIDTH_PX // 16)]
    data = b""
    rows = HEIGHT_PX // (32 if is_field else 16)
    for i in range(rows * len(blocks)):
        if i:
            bits = _Bits()
        bits.ue(25)  # I_PCM
        data += bits.aligned() + bytes([blocks[i % len(blocks)]]) * 256 + bytes([_GREY]) * 128
    return _nal(5 if picture.is_idr else 1, 2 if picture.is_reference else 0, data + b"\x80")


@dataclass(frozen=True, slots=True)
class Stored:
    """A packet as a container is to hold it."""

    data: bytes
    pts_ms: int
    dts_ms: int
    is_key: bool


def mux(
    path: Path, packets: Sequence[Stored], *, reorder: int = 0, interlaced: bool = True
) -> Path:
    """Store packets with timestamps of one's own; the container goes by the path's suffix."""
    head = parameter_sets(reorder=reorder, interlaced=interlaced)
    raw = io.BytesIO(head + b"".join(packet.data for packet in packets))
    with av.open(raw, format="h264") as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for stored in packets:
            data = head + stored.data if stored.is_key else stored.data
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = stored.pts_ms, stored.dts_ms
            packet.is_keyframe = stored.is_key
            container.mux(packet)
    return path


def number_shown(image_HWC: np.ndarray) -> int:
    """Read a picture's number."""
    height_px, width_px = image_HWC.shape[:2]
    row_WC = image_HWC[height_px // 4]
    num_blocks = WIDTH_PX // 16
    middles = [(2 * k + 1) * width_px // (2 * num_blocks) for k in range(num_blocks)]
    return sum(1 << k for k, x in enumerate(middles) if row_WC[x].mean() > 128)
