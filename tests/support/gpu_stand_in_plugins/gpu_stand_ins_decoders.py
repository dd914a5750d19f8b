"""Decoders that run as the one on a GPU does, in the one child that all workers share."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from misbehaving_decoder import MisbehavingDecoder

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize
from vxp_data.decoders.nvdec_claims import Card
from vxp_data.decoders.torchcodec_cuda import TorchcodecCudaDecoder
from vxp_data.errors import UserError
from vxp_data.records import Media

L4 = Card(name="L4", capability=(8, 9))


class NvdecOnCpu(TorchcodecCudaDecoder):
    """The decoder itself, with torchcodec on a core."""

    name = "nvdec-on-cpu"
    device: ClassVar[str] = "cpu"

    def card(self) -> Card:
        """Claim what a card claims that is not here."""
        return L4


class MisbehavingOnGpu(MisbehavingDecoder):
    """Does what the file's name says; its frames' first two bytes tell in which process."""

    name = "misbehaving-on-gpu"
    on_gpu: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse as where there is no GPU, if asked to."""
        if "VXP_TEST_NO_GPU" in os.environ:
            raise UserError("no GPU, as asked")

    def decode(
        self, path: str, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> DecodedFrames:
        """Hoard 2 GiB, or misbehave, or decode."""
        if "hoards" in Path(media.uri).name:
            hoard = [np.ones(1 << 22, dtype=np.uint8)]
            while len(hoard) < 1 << 9:
                hoard.append(np.ones(1 << 22, dtype=np.uint8))
        decoded = super().decode(path, media, plan, size)
        frames = decoded.frames_FHWC
        frames[:, 0, 0, :3] = np.frombuffer(os.getpid().to_bytes(3, "little"), dtype=np.uint8)
        return decoded
