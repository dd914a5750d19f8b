"""A video that is drawn, as models that are evaluated are given it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from support.tiny_video_xl_pro import drawn_frames
from vxp_model.eval.adapters.base import FramePlan


class DrawnSource:
    """Frames of large patches; counts how often they are read."""

    def __init__(self, time_s: Sequence[float], *, px: int = 64, seed: int = 0) -> None:
        self._px, self._seed = px, seed
        self.num_reads = 0
        self.sizes: list[int] = []
        self.plan = FramePlan(
            video=f"drawn-{seed}.mp4",
            frame_index=tuple(range(len(time_s))),
            time_s=tuple(time_s),
            duration_s=time_s[-1] + 1.0,
            width_px=px,
            height_px=px,
            num_bytes=0,
        )

    def pieces(self, *, frame_px: int | None, piece_frames: int) -> Iterator[NDArray[np.uint8]]:
        """Draw the frames; see `FrameSource`."""
        self.num_reads += 1
        frames = drawn_frames(len(self.plan.time_s), px=frame_px or self._px, seed=self._seed)
        frames.setflags(write=False)
        for start in range(0, len(frames), piece_frames):
            self.sizes.append(len(frames[start : start + piece_frames]))
            yield frames[start : start + piece_frames]
