"""From a decoded PyAV frame to the RGB image as it is displayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vxp_data.decoders.base import FrameSize, Geometry

_SCALING: Final = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""The filter nearest to the one in open_clip's transform: it widens with the reduction."""
_GREEN_BLUE_RED: Final = (1, 2, 0)
"""The channel of each plane of `gbrp`."""
_NEARLY_SQUARE: Final = 0.01
"""Pixel aspects this near to 1 are an encoder's rounding."""
_LONGEST_PIXEL: Final = 20
"""Pixels longer or flatter than this are a broken header, and count as square."""
_UNSPECIFIED: Final = 2
_MATRICES: Final = frozenset({0, 1, _UNSPECIFIED, 4, 5, 6, 7, 9})
"""Colour matrices (ITU-T H.273) that swscale knows; it refuses a frame that is tagged with another
(YCgCo, BT.2020 constant luminance, ICtCp, reserved numbers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """A display matrix as one of the eight turns and mirrorings of a rectangle."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation | None:
        """Read a frame's display matrix, None where it has none; odd angles count as no turn."""
        side_data = cast("Mapping[str, Buffer]", frame.side_data)  # PyAV's stub knows one kind
        if (data := side_data.get("DISPLAYMATRIX")) is None:
            return None
        matrix = np.frombuffer(bytes(data), dtype=np.int32)
        a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))
        straight, turned = min(abs(a), abs(d)), min(abs(b), abs(c))
        if max(abs(b), abs(c)) < 0.01 * straight:
            return cls(flip_x=a < 0, flip_y=d < 0)
        if max(abs(a), abs(d)) < 0.01 * turned:
            return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)
        return cls()

    @property
    def rotation(self) -> int:
        """Clockwise turn, degrees; a mirroring counts as none."""
        if self.transpose:
            return {(True, False): 90, (False, True): 270}.get((self.flip_x, self.flip_y), 0)
        return 180 if self.flip_x and self.flip_y else 0

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rotate an image, [H, W] or [H, W, C], from stored to displayed orientation: a view."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def geometry_of(
    frame: VideoFrame, pixel_aspect: Fraction | None, orientation: Orientation
) -> Geometry:
    """Return a frame's displayed size: pixels made square (never fewer of them), then turned."""
    width_px, height_px = _square_pixels(frame.width, frame.height, pixel_aspect)
    if orientation.transpose:
        width_px, height_px = height_px, width_px
    return Geometry(width_px=width_px, height_px=height_px, rotation=orientation.rotation)


class Image:
    """Scales, converts and turns frames of one video to one size; reuses swscale's tables."""

    def __init__(self, size: FrameSize) -> None:
        self._size = size
        self._reformatter = VideoReformatter()
        self.note = ""
        """What is not drawn as the stream says; '' where all is."""

    def draw(self, frame: VideoFrame, orientation: Orientation, out_HWC: NDArray[np.uint8]) -> None:
        """Write the image as displayed: uint8 [height_px, width_px, 3], full-range RGB.

        swscale makes three planes of YUV in a third to a seventh of the time that it takes for
        packed pixels, the same values.
        """
        if frame.format.is_rgb or frame.format.has_palette:
            packed = self._scaled(frame, orientation, "rgb24").to_ndarray()
            out_HWC[:] = orientation.apply(packed.astype(np.uint8, copy=False))
            return
        planes = self._scaled(frame, orientation, "gbrp").planes
        for channel, plane in zip(_GREEN_BLUE_RED, planes, strict=True):
            out_HWC[..., channel] = orientation.apply(_rows(plane)[:, : plane.width])

    def _scaled(self, frame: VideoFrame, orientation: Orientation, pixels: str) -> VideoFrame:
        width_px, height_px = self._size.width_px, self._size.height_px
        if orientation.transpose:
            width_px, height_px = height_px, width_px
        if frame.interlaced_frame and not frame.format.has_palette:
            frame = _as_progressive(frame)
        if not frame.format.is_rgb and frame.colorspace not in _MATRICES:
            self.note = f"colour matrix {int(frame.colorspace)} is taken for unspecified (BT.601)"
            frame.colorspace = _UNSPECIFIED
        return self._reformatter.reformat(
            frame,
            width=width_px,
            height=height_px,
            format=pixels,
            interpolation=_SCALING,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )


def _as_progressive(frame: VideoFrame) -> VideoFrame:
    """Copy a frame, but for its mark as interlaced: swscale would scale each field by itself.

    Lines that it then never mixes differ from those of the whole picture, as `ffmpeg` and the
    encoders' own transforms scale it, by some grey levels.
    """
    copy = VideoFrame(frame.width, frame.height, frame.format.name)
    for given, made in zip(frame.planes, copy.planes, strict=True):
        line_bytes = min(given.line_size, made.line_size)
        if line_bytes <= 0:  # stored from the last line up: PyAV's view of it ends too early
            return frame
        _rows(made)[:, :line_bytes] = _rows(given)[:, :line_bytes]
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    return copy


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    """View a plane as bytes, [lines, bytes in a line with its padding]."""
    data = np.frombuffer(cast("memoryview[int]", plane), dtype=np.uint8)
    return data.reshape(plane.height, plane.line_size)


def _square_pixels(width_px: int, height_px: int, aspect: Fraction | None) -> tuple[int, int]:
    if not aspect or abs(aspect - 1) < _NEARLY_SQUARE:
        return width_px, height_px
    if not 1 / _LONGEST_PIXEL <= aspect <= _LONGEST_PIXEL:
        return width_px, height_px
    if aspect > 1:
        return round(width_px * aspect), height_px
    return width_px, round(height_px / aspect)
