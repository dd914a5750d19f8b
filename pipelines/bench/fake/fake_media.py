"""A decoder and an encoder that cost next to nothing, so that only the pipeline is measured.

The environment says more: VXP_BENCH_DECODE_S and VXP_BENCH_EMBED_S are seconds that each waits a
file, without using a core, half to one and a half times as long by chance; VXP_BENCH_FRAME_PX is
the side of a frame; with VXP_BENCH_ONE_TASK=1 the encoder works where frames are decoded. With
VXP_BENCH_LOG the encoder waits as long every time, and appends to that file when it began and
ended.
"""

from __future__ import annotations

import os
import random
import time
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize
from vxp_data.encoders.base import EncoderSettings, EncoderSpec
from vxp_data.records import Media

DIM = 1152
"""As SigLIP so400m gives them."""
FRAME_PX = int(os.environ.get("VXP_BENCH_FRAME_PX", "384"))
DECODE_S = float(os.environ.get("VXP_BENCH_DECODE_S", "0"))
EMBED_S = float(os.environ.get("VXP_BENCH_EMBED_S", "0"))
LOG = os.environ.get("VXP_BENCH_LOG")
ONE_TASK = os.environ.get("VXP_BENCH_ONE_TASK") == "1"


class FakeDecoder:
    """Gives the images of a plan without reading the file."""

    name = "fake"

    def check(self) -> None:
        """Pass."""

    def supports(self, media: Media) -> bool:  # noqa: ARG002 - all the same
        """Claim every file."""
        return True

    def decode(
        self, path: str, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> DecodedFrames:
        """Return noise, the same for every file."""
        del path, media
        assert size is not None
        wait(DECODE_S)
        frames_FHWC = _noise(len(plan), size.height_px, size.width_px)
        return DecodedFrames(frames_FHWC=frames_FHWC, is_exact_F=np.ones(len(plan), dtype=np.bool_))


class FakeEncoder:
    """Takes frames of SigLIP's size in an actor, looks at a few pixels, gives SigLIP's width."""

    spec = EncoderSpec(
        name="fake",
        frame_px=FRAME_PX,
        dim=DIM,
        fingerprint="0" * 16,
        in_decode_task=ONE_TASK,
    )

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> None:
        """Pass."""

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:  # noqa: ARG003 - takes none
        """Return the spec."""
        return cls.spec

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:  # noqa: ARG003 - takes none
        """Build it."""
        return cls()

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return each image's first pixels, as a unit vector."""
        began_s = time.time()
        wait(EMBED_S)
        emb_FD = frames_FHWC.reshape(len(frames_FHWC), -1)[:, :DIM].astype(np.float32) + 1
        emb_FD /= np.linalg.norm(emb_FD, axis=1, keepdims=True)
        if LOG:
            with Path(LOG).open("a", encoding="utf-8") as log:
                log.write(f"{os.getpid()} {began_s} {time.time()}\n")
        return emb_FD


def wait(mean_s: float) -> None:
    """Wait half to one and a half times so long; always as long where a log is kept."""
    if mean_s:
        time.sleep(mean_s * (1 if LOG else random.uniform(0.5, 1.5)))


@cache
def _noise(num_frames: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_frames, height_px, width_px, 3), dtype=np.uint8)
