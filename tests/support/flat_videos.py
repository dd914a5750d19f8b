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


def write_flat_video(path: Path, *, num_frames: int, rgb: tuple[int, int, int] = GREY) -> Path:
    """Write an MP4 of 32 x 32 pixels at 10 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        image = np.full((32, 32, 3), rgb, dtype=np.uint8)
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path
