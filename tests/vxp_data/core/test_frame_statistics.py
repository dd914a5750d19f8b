"""What frames look like: the measure of scene changes beside PySceneDetect's, and flatness."""

import colorsys

import numpy as np
import pytest

from vxp_data.core.frame_statistics import SMALL_PX, frame_statistics

# RGB, and what PySceneDetect 0.7.2 (OpenCV 5.0) gives from one plain image to the next.
PLAIN = [
    ((0, 0, 0), None),
    ((255, 255, 255), 85.0),
    ((255, 0, 0), 85.0),
    ((0, 0, 255), 40.0),
    ((250, 20, 30), 28.0),
    ((12, 200, 90), 54.0),
    ((13, 13, 13), 166.333),
    ((70, 60, 62), 89.0),
]


def plain(*colours, side_px=64):
    images = np.array(colours, dtype=np.uint8)[:, None, None, :]
    return np.broadcast_to(images, (len(colours), side_px, side_px, 3)).copy()


def test_changes_are_those_of_pyscenedetect():
    change_P = frame_statistics(plain(*(colour for colour, _ in PLAIN))).change_P
    wanted = [change for _, change in PLAIN[1:]]
    assert change_P.dtype == np.float32
    assert change_P == pytest.approx(wanted, abs=0.35)  # OpenCV rounds each channel


@pytest.mark.parametrize("side_px", [16, 64, 95, 200, 384, 500])
def test_an_image_is_as_different_at_any_size(side_px):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    at = np.arange(side_px) * 4 // side_px
    statistics = frame_statistics(coarse[:, at][:, :, at])
    small = frame_statistics(coarse)
    np.testing.assert_allclose(statistics.change_P, small.change_P, rtol=0.06)
    np.testing.assert_allclose(statistics.contrast_F, small.contrast_F, rtol=0.06)


def test_contrast_is_nothing_for_any_plain_colour_and_greatest_for_black_and_white():
    half = plain((0, 0, 0), side_px=200)
    half[:, :, 100:] = 255
    assert frame_statistics(plain((0, 0, 0), (200, 10, 60))).contrast_F == pytest.approx(
        [0, 0], abs=1e-3
    )
    assert frame_statistics(half).contrast_F == pytest.approx([127.5], abs=0.1)
    assert len(frame_statistics(half).change_P) == 0


def test_noise_counts_for_less_than_what_it_hides():
    rng = np.random.default_rng(0)
    noise = rng.integers(-20, 21, (2, 4 * SMALL_PX, 4 * SMALL_PX, 3))
    frames = np.clip(128 + noise, 0, 255).astype(np.uint8)
    statistics = frame_statistics(frames)
    assert statistics.contrast_F.max() < 5  # of single pixels: 9
    assert frame_statistics(frames[:, ::4, ::4]).contrast_F.min() > 7


def hsv(colour):
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    return np.array([180 * hue, 255 * saturation, 255 * value])


def test_hue_is_right_whichever_channel_is_the_greatest():
    rng = np.random.default_rng(0)
    colours = [tuple(int(c) for c in colour) for colour in rng.integers(1, 256, (200, 3))]
    change_P = frame_statistics(plain(*colours, side_px=2)).change_P
    hsv_F3 = np.array([hsv(colour) for colour in colours])
    np.testing.assert_allclose(change_P, np.abs(np.diff(hsv_F3, axis=0)).mean(axis=1), atol=1e-3)


@pytest.mark.parametrize(("channel", "weight"), [(0, 0.299), (1, 0.587), (2, 0.114)])
def test_contrast_weighs_colours_as_the_eye_does(channel, weight):
    half = plain((0, 0, 0))
    half[:, :, 32:, channel] = 255
    assert frame_statistics(half).contrast_F == pytest.approx([255 * weight / 2], rel=1e-5)


@pytest.mark.parametrize(
    ("height_px", "width_px", "down", "across"),
    [(200, 400, 2, 4), (290, 97, 3, 1), (95, 500, 1, 5), (500, 95, 5, 1), (191, 192, 1, 2)],
)
def test_cells_are_means_of_whole_blocks_of_any_shape(height_px, width_px, down, across):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, height_px, width_px, 3)).astype(np.uint8)
    rows, columns = height_px // down, width_px // across
    luma_FHW = frames @ np.array([0.299, 0.587, 0.114])
    luma_FHW = luma_FHW[:, : rows * down, : columns * across]
    cells = luma_FHW.reshape(2, rows, down, columns, across).mean(axis=(2, 4))
    np.testing.assert_allclose(
        frame_statistics(frames).contrast_F, cells.std(axis=(1, 2)), rtol=1e-4
    )


def test_large_frames_do_not_overflow():
    frames_FHWC = np.zeros((1, 1700, 1700, 3), dtype=np.uint8)
    frames_FHWC[:, :, :850] = 255
    assert frame_statistics(frames_FHWC).contrast_F == pytest.approx(127.5, abs=0.1)
