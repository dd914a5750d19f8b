"""The frames of a clip as one small picture, for a person to look at.

Shapes: F frames of H x W pixels, C = 3 colours.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLUMNS: Final = 5
"""Frames in a row of the sheet."""
TILE_PX: Final = 96
"""Side of a frame in the sheet, at most; frames are squares, as the encoder sees them."""
_QUALITIES: Final = (50, 30, 10)
"""WebP's own scale; the first that keeps within the bound."""


def contact_sheet(frames_FHWC: NDArray[np.uint8], *, max_bytes: int) -> bytes | None:
    """Draw frames, five in a row, in order, as WebP.

    The same frames give the same bytes with the same Pillow.

    Args:
        frames_FHWC: uint8 RGB, F >= 1, square.
        max_bytes: the picture has at most so many.

    Returns:
        A picture of COLUMNS tiles in width and as many rows as it takes, black where no frame is
        left; None where even poor quality takes more than `max_bytes`.
    """
    num_frames, side_px = frames_FHWC.shape[:2]
    tile_px = min(TILE_PX, side_px)
    columns = min(COLUMNS, num_frames)
    rows = -(-num_frames // columns)
    sheet = Image.new("RGB", (columns * tile_px, rows * tile_px))
    for place, frame_HWC in enumerate(frames_FHWC):
        tile = Image.fromarray(frame_HWC)
        if tile_px != side_px:
            tile = tile.resize((tile_px, tile_px), Image.Resampling.BOX)
        sheet.paste(tile, (place % columns * tile_px, place // columns * tile_px))
    for quality in _QUALITIES:
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=quality, method=4)
        if file.tell() <= max_bytes:
            return file.getvalue()
    return None
