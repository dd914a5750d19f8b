"""A decoder that does to a clip what the clip's file name says; any other it decodes with PyAV."""

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.errors import MediaError
from vxp_data.records import Media, Reason


class MisbehavingDecoder:
    """Hangs, crashes, is killed, allocates, raises, or is honest about what it cannot do."""

    name = "misbehaving"

    def check(self) -> None:
        """Pass."""

    def supports(self, media: Media) -> bool:
        """Claim all but files named so."""
        return "unclaimed" not in Path(media.uri).name

    def decode(
        self, path: str, media: Media, plan: FramePlan, size: FrameSize | None
    ) -> DecodedFrames:
        """Misbehave, or decode."""
        name = Path(media.uri).name
        if "hangs" in name:
            ctypes.PyDLL(None).sleep(600)  # holding the GIL, as decord does
        if "dozes" in name:
            time.sleep(600)
        if "crashes" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "killed" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if "allocates" in name:
            # 16 GiB, if it may; not written to, which takes seconds on a busy machine.
            hoard = [np.empty(1 << 24, dtype=np.uint8) for _ in range(1 << 10)]
            assert hoard
        if "raises" in name:
            raise MediaError(Reason.DECODE_FAILED, "as asked")
        if "buggy" in name:
            raise ZeroDivisionError("a bug of the decoder")
        return PyavDecoder().decode(path, media, plan, size)
