"""An encoder whose vectors depend on the machine it runs on, as a real one's do on GPU and CPU."""

import os

import numpy as np
from nodal_marks import dawdle, mark

from vxp_data.encoders.base import EncoderSpec, fingerprint
from vxp_data.errors import UserError

FRAME_PX = 16


class NodalEncoder:
    """Mean colours: rounded on 'cuda', which VXP_TEST_DEVICE says is here; of VXP_TEST_VERSION."""

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec

    @classmethod
    def prepare(cls, settings) -> None:
        """Pass."""

    @classmethod
    def describe(cls, settings) -> EncoderSpec:
        """Return the spec of the settings' device; 'auto' is this machine's."""
        device = here() if settings.device == "auto" else settings.device
        precision = "bf16" if device == "cuda" else "fp32"
        version = os.environ.get("VXP_TEST_VERSION", "1")
        return EncoderSpec(
            name="nodal",
            frame_px=FRAME_PX,
            dim=4,
            fingerprint=fingerprint({"precision": precision, "version": version}),
            in_decode_task=False,
            precision=precision,
        )

    @classmethod
    def load(cls, settings) -> "NodalEncoder":
        """Build it on the device that is asked for."""
        if settings.device == "cuda" and here() != "cuda":
            raise UserError("no CUDA device here")
        return cls(cls.describe(settings))

    def embed(self, frames_FHWC: np.ndarray) -> np.ndarray:
        """Embed by mean colour."""
        mark("embed")
        dawdle("embed", len(frames_FHWC))
        mean_FC = frames_FHWC.reshape(len(frames_FHWC), -1, 3).mean(axis=1)
        if self.spec.precision == "bf16":
            mean_FC = mean_FC.round(-1)
        emb_FD = np.concatenate([mean_FC, np.full((len(mean_FC), 1), 64.0)], axis=1)
        return (emb_FD / np.linalg.norm(emb_FD, axis=1, keepdims=True)).astype(np.float32)


def here() -> str:
    """Return the device of this machine."""
    return os.environ.get("VXP_TEST_DEVICE", "cpu")
