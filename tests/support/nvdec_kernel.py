"""The colours that torchcodec's CUDA code gives for an 8-bit 4:2:0 image, by its arithmetic.

Written from the definition of ITU-R BT.601 and BT.709: one chroma sample for four pixels, floating
point, values cut off (not rounded) to 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import av
import numpy as np
from numpy.typing import NDArray

KR_KB = {1: (0.2126, 0.0722)}
BT601 = (0.299, 0.114)


def nvdec_rgb(frame: av.VideoFrame, tags: Mapping[str, int]) -> NDArray[np.uint8]:
    """Convert a decoded frame of even size; `tags` are its stream's `colorspace`, `color_range`."""
    planes = frame.to_ndarray()
    assert frame.format.name in ("yuv420p", "yuvj420p")
    height, width = frame.height, frame.width
    luma = planes[:height].astype(np.float32)
    chroma = planes[height:].reshape(2, height // 2, width // 2).astype(np.float32)
    blue, red = (np.repeat(np.repeat(plane, 2, axis=0), 2, axis=1) for plane in chroma)
    if tags.get("color_range") == 2:
        y, cb, cr = luma / 255, (blue - 128) / 255, (red - 128) / 255
    else:
        y, cb, cr = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
    kr, kb = KR_KB.get(tags.get("colorspace", 2), BT601)
    r = y + 2 * (1 - kr) * cr
    b = y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    rgb: NDArray[np.uint8] = np.clip(255 * np.stack([r, g, b], axis=-1), 0, 255).astype(np.uint8)
    return rgb
