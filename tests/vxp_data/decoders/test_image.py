"""Images as displayed: the values that swscale gives for packed pixels, turned and mirrored."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation

from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.image import Image, Orientation

FORMATS = (
    *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "yuv440p", "yuva420p"),
    *("yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p16le", "nv12", "p010le", "yuyv422"),
    *("gray", "gray10le", "ya8", "monow"),
    *("rgb24", "bgra", "gbrp", "gbrp10le", "rgb555le", "bgr565le", "rgb48le"),
)
SIZES = ((64, 48), (96, 48), (64, 97), (37, 21), (150, 131))
BICUBIC = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
BT709, UNSPECIFIED, BT601, BT2020 = 1, 2, 5, 9


def noise(pixels, width=64, height=48):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixels)


def packed(frame, size):
    """Return what swscale gives when it is asked for RGB itself."""
    width, height = size
    out = frame.reformat(
        *(width, height, "rgb24"), interpolation=BICUBIC, dst_color_range=ColorRange.JPEG
    )
    return out.to_ndarray()


def drawn(frame, size, orientation=Orientation()):  # noqa: B008 - frozen
    out = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    Image(FrameSize(width_px=size[0], height_px=size[1])).draw(frame, orientation, out)
    return out


@pytest.mark.parametrize("pixels", FORMATS)
def test_every_pixel_is_that_of_swscale_s_own_rgb(pixels):
    frame = noise(pixels)
    tags = itertools.product((BT709, UNSPECIFIED, BT601, BT2020), (0, 1, 2), SIZES)
    for frame.colorspace, frame.color_range, size in tags:
        assert (drawn(frame, size) == packed(frame, size)).all(), (pixels, size)


@pytest.mark.parametrize("pixels", ["yuv420p", "rgb24"])
@pytest.mark.parametrize("turns", list(itertools.product((False, True), repeat=3)))
def test_an_image_is_turned_and_mirrored_after_scaling(pixels, turns):
    transpose, flip_x, flip_y = turns
    frame, (width, height) = noise(pixels), (30, 44)
    stored = packed(frame, (height, width) if transpose else (width, height))
    upright = stored.transpose(1, 0, 2) if transpose else stored
    upright = np.fliplr(upright) if flip_x else upright
    upright = np.flipud(upright) if flip_y else upright
    orientation = Orientation(transpose=transpose, flip_x=flip_x, flip_y=flip_y)
    assert (drawn(frame, (width, height), orientation) == upright).all()
