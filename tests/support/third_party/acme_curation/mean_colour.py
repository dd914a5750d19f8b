"""The mean colour of an image as a unit vector: no weights, three numbers."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.encoders.base import EncoderSettings, EncoderSpec, check_frames, fingerprint

FRAME_PX = 16


class MeanColour:
    """Encoder 'mean_colour'; takes no settings."""

    spec = EncoderSpec(
        name="mean_colour",
        frame_px=FRAME_PX,
        dim=3,
        fingerprint=fingerprint({"encoder": "mean_colour", "version": 1}),
        in_decode_task=True,
    )

    @classmethod
    def prepare(cls, settings: EncoderSettings) -> None:
        """Pass: there are no weights."""

    @classmethod
    def describe(cls, settings: EncoderSettings) -> EncoderSpec:  # noqa: ARG003 - takes none
        """Return the spec."""
        return cls.spec

    @classmethod
    def load(cls, settings: EncoderSettings) -> Self:  # noqa: ARG003 - takes none
        """Build it."""
        return cls()

    def embed(self, frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors towards the mean colours; black leans to grey."""
        check_frames(frames_FHWC, frame_px=FRAME_PX)
        colour_FD = frames_FHWC.reshape(len(frames_FHWC), -1, 3).mean(axis=1) + 1.0
        return (colour_FD / np.linalg.norm(colour_FD, axis=1, keepdims=True)).astype(np.float32)
