"""An image of what the masking does to one clip.

Shape suffixes: T frames, H W pixels of a frame, N tokens of a frame, row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_SIDE_PX: Final = 168
_GAP_PX: Final = 4
_MAX_FRAMES: Final = 16
_HIDDEN: Final = 0.15
"""Brightness that is left of a masked patch."""


def draw_mask(frames_THWC: Tensor, mask_TN: Tensor, scores_TN: Tensor) -> NDArray[np.uint8]:
    """Draw a clip's frames, below them what the compressor sees of them, below that the scores.

    Args:
        frames_THWC: uint8 RGB.
        mask_TN: bool, True where masked; N a square number.
        scores_TN: real; drawn from black, the frame's lowest, to white, its highest.

    Returns:
        image_HWC: uint8 RGB.
    """
    count = min(len(frames_THWC), _MAX_FRAMES)
    cell = _SIDE_PX + _GAP_PX
    image_HWC = np.full((3 * cell - _GAP_PX, count * cell - _GAP_PX, 3), 255, dtype=np.uint8)
    for t in range(count):
        frame_HWC = _scaled(frames_THWC[t].numpy(), Image.Resampling.BICUBIC)
        hidden_HW = _on_grid(mask_TN[t].numpy().astype(np.float32))
        seen_HWC = frame_HWC * np.where(hidden_HW[..., None] > 0.5, _HIDDEN, 1.0)
        score_N = scores_TN[t].float().numpy()
        spread = float(score_N.max() - score_N.min()) or 1.0
        score_HW = _on_grid((score_N - score_N.min()) / spread)
        left = t * cell
        rows: list[NDArray[Any]] = [frame_HWC, seen_HWC, 255 * score_HW[..., None]]
        for row, part_HWC in enumerate(rows):
            top = row * cell
            image_HWC[top : top + _SIDE_PX, left : left + _SIDE_PX] = part_HWC.astype(np.uint8)
    return image_HWC


def write_image(image_HWC: NDArray[np.uint8], path: Path) -> None:
    """Write a PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    Image.fromarray(image_HWC).save(beside, format="png")
    beside.replace(path)


def _scaled(frame_HWC: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(frame_HWC).resize((_SIDE_PX, _SIDE_PX), how))


def _on_grid(value_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spread one value a token over the image, blocks with sharp edges."""
    side = round(len(value_N) ** 0.5)
    token_P = np.arange(_SIDE_PX) * side // _SIDE_PX
    grid_HW: NDArray[np.float32] = value_N.reshape(side, side)[token_P][:, token_P]
    return grid_HW
