"""Small videos for tests of the model: plain colours, one a frame."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_colours(path: Path, *, num_frames: int, fps: int, px: int = 64) -> Path:
    """Write an MP4 whose frame k is of one grey, (k * 37) % 256."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.width = stream.height = px
        stream.pix_fmt = "yuv420p"
        for number in range(num_frames):
            image = np.full((px, px, 3), number * 37 % 256, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
