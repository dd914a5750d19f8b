"""One media in the sandbox: probe it, decode planned frames of it. Plain objects, no Ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.config import DecodeConfig
from vxp_data.decoders.base import FramePlan, FrameSize
from vxp_data.decoders.child import Decoded, decode_file, probe_file
from vxp_data.decoders.probe import Probe
from vxp_data.decoders.sandbox import FrameArena, Sandbox, Timed
from vxp_data.errors import MediaError
from vxp_data.records import Media, Reason

_DECODE_S_PER_FRAME: Final = 0.02
"""Extra wall-clock allowance for each frame of a video: a long one may take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFrames:
    """The frames of a plan, and how they were got."""

    frames_FHWC: NDArray[np.uint8]
    """uint8, of the size asked for."""
    media: Media
    """As probed, with the displayed size and rotation that decoding showed."""
    num_exact: int
    """Frames that are the planned ones; others were replaced by the nearest earlier one."""
    decoder: str
    note: str
    """Why not the decoder asked for; '' where it was."""
    cpu_s: float


class MediaReader:
    """Holds one child process, in which media after media is probed and decoded."""

    def __init__(self, decode: DecodeConfig) -> None:
        self._decode = decode
        self._arena = FrameArena()
        self._sandbox = Sandbox(decode.memory_mib << 20, self._arena)

    def close(self) -> None:
        """End the child process and free the shared memory."""
        self._sandbox.close()
        self._arena.close()

    def probe(self, uri: str, *, is_image: bool) -> Timed[Probe]:
        """Read a file's facts and timeline.

        Raises:
            MediaError: it cannot be used.
        """
        call = (probe_file, uri, uri, is_image, self._decode.limits())
        return self._sandbox.call(*call, timeout_s=self._decode.timeout_s)

    def decode(self, media: Media, plan: FramePlan, size: FrameSize) -> PlannedFrames:
        """Decode with the decoder asked for; where it fails or does not claim the media, once more.

        Where a decoder says `unsupported`, PyAV takes its place, since the gate is PyAV's own.

        Raises:
            MediaError: neither gave a frame.
        """
        first = self._decode.decoder
        try:
            return self._frames(first, "", media, plan, size)
        except MediaError as error:
            second = "pyav" if error.reason is Reason.UNSUPPORTED else self._decode.fallback
            if second is None or second == first:
                raise
            note = f"{first}: {error}"
            try:
                return self._frames(second, note, media, plan, size)
            except MediaError as again:
                raise MediaError(error.reason, f"{note}; {second}: {again}") from again

    def _frames(
        self, name: str, note: str, media: Media, plan: FramePlan, size: FrameSize
    ) -> PlannedFrames:
        timed = self._decode_with(name, media, plan, size)
        decoded = timed.value
        geometry = decoded.geometry
        return PlannedFrames(
            frames_FHWC=self._arena.take(decoded.shape),
            media=replace(
                media,
                width_px=geometry.width_px,
                height_px=geometry.height_px,
                rotation=geometry.rotation,
            ),
            num_exact=int(decoded.is_exact_F.sum()),
            decoder=name,
            note=note,
            cpu_s=timed.cpu_s,
        )

    def _decode_with(
        self, name: str, media: Media, plan: FramePlan, size: FrameSize
    ) -> Timed[Decoded]:
        self._arena.reserve(len(plan) * size.height_px * size.width_px * 3)
        return self._sandbox.call(
            decode_file,
            name,
            media.uri,
            media,
            plan,
            size,
            timeout_s=self._decode.timeout_s + _DECODE_S_PER_FRAME * media.num_frames,
        )
