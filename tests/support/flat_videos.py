"""Tiny videos of one colour, so many frames long: what `misbehaving/` goes by."""

from pathlib import Path

import av
import numpy as np

KILLS, KILLS_ONCE, HAS_NO_MEMORY, TAKES_LONG, HOARDS = 31, 32, 33, 34, 35
"""Numbers of frames that mean something to the sampler 'misbehaving'."""
COSTS_FROM = 100
"""A video of this many frames and n more costs it n tenths of a second."""

GREY, RED, GREEN, BLUE = (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE = (255, 255, 255)


def write_flat_video(
    path: Path,
    *,
    num_frames: int,
    rgb: tuple[int, int, int] = GREY,
    last_rgb: tuple[int, int, int] | None = None,
    size_px: tuple[int, int] = (32, 32),
) -> Path:
    """Write an MP4 of (width, height) `size_px` at 10 frames a second, its last half `last_rgb`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuv420p"
        for frame in range(num_frames):
            now = rgb if last_rgb is None or 2 * frame < num_frames else last_rgb
            image = np.full((*size_px[::-1], 3), now, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path
