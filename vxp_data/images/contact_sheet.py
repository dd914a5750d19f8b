"""The frames of a clip as one small image, for a person to look at.

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
"""A frame of so many pixels or more is made smaller by whole cells, to no less than this; frames
are squares, as the encoder sees them."""
_QUALITIES: Final = (50, 30, 10)
"""WebP's own scale; the first that keeps within the bound."""
_EFFORT: Final = 2
"""WebP's `method`, 0 to 6. Its default, 4, takes twice the time for 7 % fewer bytes."""


def contact_sheet(frames_FHWC: NDArray[np.uint8], *, max_bytes: int) -> bytes | None:
    """Draw frames, five in a row, in order, as WebP.

    The same frames give the same bytes with the same Pillow.

    Args:
        frames_FHWC: uint8 RGB, F >= 1, square.
        max_bytes: the image has at most so many.

    Returns:
        An image of COLUMNS tiles in width and as many rows as it takes, black where no frame is
        left; None where even poor quality takes more than `max_bytes`.
    """
    num_frames, side_px = frames_FHWC.shape[:2]
    cell_px = max(1, side_px // TILE_PX)
    tile_px = -(-side_px // cell_px)
    columns = min(COLUMNS, num_frames)
    rows = -(-num_frames // columns)
    sheet = Image.new("RGB", (columns * tile_px, rows * tile_px))
    for index, frame_HWC in enumerate(frames_FHWC):
        tile = Image.fromarray(frame_HWC).reduce(cell_px)
        sheet.paste(tile, (index % columns * tile_px, index // columns * tile_px))
    for quality in _QUALITIES:
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=quality, method=_EFFORT)
        if file.tell() <= max_bytes:
            return file.getvalue()
    return None
