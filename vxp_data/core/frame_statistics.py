"""Frame statistics, by pixels alone: how much changes between them, how flat they are.

Shapes: F frames of H x W pixels, C = 3 colours; h x w cells.

Made where frames are decoded, so that no video is opened again for it. Both measures are taken of
images made small by cell means: noise and detail do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SMALL_PX: Final = 96
"""A side of so many pixels or more is made smaller by whole cells, to no less than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameStatistics:
    """The statistics of some frames."""

    change_P: NDArray[np.float32]
    """[F-1], in [0, 230]: how much each frame differs from the next one; 0 for the same image.

    The mean change of hue (in units of 2 degrees, 0 to 179), saturation and value (0 to 255) over
    all pixels, and the mean of these three: `content_val` of PySceneDetect's ContentDetector with
    its default weights (https://www.scenedetect.com/docs/latest/api/detectors.html)."""
    contrast_F: NDArray[np.float32]
    """[F], in [0, 127.5]: standard deviation of BT.601 luma, 0 for a plain surface."""


def frame_statistics(frames_FHWC: NDArray[np.uint8]) -> FrameStatistics:
    """Measure frames.

    Args:
        frames_FHWC: uint8 RGB, F >= 1, in order.
    """
    small_FhwC = _small(frames_FHWC)
    changes = [np.abs(np.diff(part, axis=0)).mean(axis=(1, 2)) for part in _hsv(small_FhwC)]
    luma_Fhw = small_FhwC @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return FrameStatistics(
        change_P=np.mean(changes, axis=0, dtype=np.float32),
        contrast_F=luma_Fhw.std(axis=(1, 2), dtype=np.float64).astype(np.float32),
    )


def _small(frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shrink frames by cell means; rows and columns over at the end are left out."""
    _, height, width, _ = frames_FHWC.shape
    down, across = max(1, height // SMALL_PX), max(1, width // SMALL_PX)
    cells_FHWC = frames_FHWC[:, : height // down * down, : width // across * across]
    # A cell of up to 256 pixels sums up in 16 bits: half the memory to go through.
    sums = np.uint16 if 255 * down * across < 1 << 16 else np.uint32
    rows_FhWC: NDArray[np.unsignedinteger[Any]] = cells_FHWC[:, ::down].astype(sums)
    for row in range(1, down):
        rows_FhWC += cells_FHWC[:, row::down]
    total_FhwC = rows_FhWC[:, :, ::across].copy()
    for column in range(1, across):
        total_FhwC += rows_FhWC[:, :, column::across]
    small_FhwC: NDArray[np.float32] = total_FhwC.astype(np.float32) / (down * across)
    return small_FhwC


def _hsv(rgb_FHWC: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return hue, saturation and value as OpenCV scales them for 8 bits, unrounded."""
    red, green, blue = (np.ascontiguousarray(rgb_FHWC[..., channel]) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    scale = 30 / np.where(spread > 0, spread, np.float32(1))
    hue = np.where(
        value == red,
        (green - blue) * scale,
        np.where(value == green, 60 + (blue - red) * scale, 120 + (red - green) * scale),
    )
    # OpenCV halves the hue so that 360 degrees fit into a byte: a full turn is 180.
    hue = np.where(hue < 0, hue + 180, hue)
    saturation = 255 * spread / np.maximum(value, 1)
    return hue.astype(np.float32), saturation.astype(np.float32), value.astype(np.float32)
