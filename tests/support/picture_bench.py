"""A decoding child for tests, and what it makes of a file: its facts, its frames, or a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders.base import FramePlan, FrameSize
from vxp_data.decoders.child import Decoded, decode_file, probe_file
from vxp_data.decoders.probe import Probe
from vxp_data.decoders.sandbox import FrameArena, Sandbox
from vxp_data.records import Media


class PictureBench:
    """Probes and decodes as a run does, squashed to a square."""

    def __init__(self, side_px: int) -> None:
        self._arena = FrameArena()
        self._size = FrameSize(width_px=side_px, height_px=side_px)
        self.sandbox = Sandbox(2 << 30, self._arena)

    def close(self) -> None:
        self.sandbox.close()
        self._arena.close()

    def probe(self, path: Path, *, is_image: bool = False) -> Probe:
        return self.sandbox.call(probe_file, str(path), str(path), is_image, timeout_s=60).value

    def decode(
        self, path: Path, media: Media, plan: FramePlan, decoder: str = "pyav"
    ) -> tuple[NDArray[np.uint8], Decoded]:
        self._arena.reserve(len(plan) * self._size.width_px * self._size.height_px * 3)
        call = (decode_file, decoder, str(path), media, plan, self._size)
        decoded = self.sandbox.call(*call, timeout_s=60).value
        return self._arena.take(decoded.shape), decoded

    def read(
        self, path: Path, num_frames: int = 8, *, is_image: bool = False
    ) -> tuple[NDArray[np.uint8], Decoded, Probe]:
        """Probe a file and decode frames at equal distances."""
        found = self.probe(path, is_image=is_image)
        plan = found.timeline.plan(uniform(len(found.timeline), num_frames))
        return *self.decode(path, found.media, plan), found
