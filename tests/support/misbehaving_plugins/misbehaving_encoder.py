"""An encoder in an actor of its own that does to it what an image's colour says."""

import os
import signal

import numpy as np
from misbehaving_marks import first_time, hoard

from vxp_data.encoders.base import EncoderSpec
from vxp_data.errors import UserError

FRAME_PX = 16


class MisbehavingEncoder:
    """Red kills it, blue once, green has no memory, white hoards it; of others, the mean colour."""

    spec = EncoderSpec(
        name="misbehaving", frame_px=FRAME_PX, dim=4, fingerprint="f" * 16, in_decode_task=False
    )

    @classmethod
    def prepare(cls, settings) -> None:
        """Pass."""

    @classmethod
    def describe(cls, settings) -> EncoderSpec:  # noqa: ARG003 - takes none
        """Return the spec."""
        return cls.spec

    @classmethod
    def load(cls, settings) -> "MisbehavingEncoder":
        """Build it, unless its checkpoint is to be absent."""
        if settings.checkpoint == "absent":
            raise UserError("no weights on this machine: copy them")
        return cls()

    def embed(self, frames_FHWC: np.ndarray) -> np.ndarray:
        """Misbehave, or embed."""
        mean_FC = frames_FHWC.reshape(len(frames_FHWC), -1, 3).mean(axis=1)
        red, green, blue = (
            (mean_FC.argmax(axis=1) == c) & (mean_FC.min(axis=1) < 64) for c in range(3)
        )
        if red.any() or (blue.any() and first_time("encoder")):
            os.kill(os.getpid(), signal.SIGKILL)
        if green.any():
            raise MemoryError
        if (mean_FC.min(axis=1) > 240).any():
            hoard()
        emb_FD = np.concatenate([mean_FC, np.full((len(mean_FC), 1), 64.0)], axis=1)
        return (emb_FD / np.linalg.norm(emb_FD, axis=1, keepdims=True)).astype(np.float32)
