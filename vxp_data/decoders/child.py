"""What runs in the sandbox's child: probe a file, decode a plan into shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.base import Decoder, FramePlan, FrameSize, Geometry, decodes_on_gpu
from vxp_data.decoders.child_process import child_memory_bytes
from vxp_data.decoders.failures import failures_as_reasons
from vxp_data.decoders.probe import Probe, probe
from vxp_data.decoders.pyav_decoder import displayed_geometry
from vxp_data.decoders.sandbox import NO_LIMIT, cap_memory, put_frames
from vxp_data.errors import MediaError
from vxp_data.records import Media, MediaLimits, Reason
from vxp_data.registry import DECODERS

_LIMITS: Final = MediaLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a decode gave, but for the pixels, which lie in the arena: uint8 [F, H, W, 3]."""

    shape: tuple[int, int, int, int]
    is_exact_F: NDArray[np.bool_]
    geometry: Geometry
    note: str = ""
    """See DecodedFrames."""


def probe_file(
    path: str,
    uri: str,
    image: bool,
    limits: MediaLimits = _LIMITS,
    keep_open: bool = False,
) -> Probe:
    """Probe under the memory cap; see `probe.probe`."""
    cap_memory()
    with failures_as_reasons(Reason.CORRUPT):
        return probe(path, uri, image=image, limits=limits, keep_open=keep_open)


def check_decoder(name: str) -> None:
    """Check that a decoder can work here; see `Decoder.check`."""
    _decoder(name).check()


def decode_file(
    name: str, path: str, media: Media, plan: FramePlan, size: FrameSize, *, offset: int = 0
) -> Decoded:
    """Decode a plan into the sandbox's arena.

    Args:
        name: of the decoder.
        path: of a local file.
        media: what the gate found out about it.
        plan: the frames.
        size: to scale to.
        offset: where in the arena the frames begin.

    Raises:
        MediaError: `unsupported` where the decoder does not claim such media; else as
            `Decoder.decode`.
    """
    decoder = _decoder(name)
    if decodes_on_gpu(name) and child_memory_bytes() != NO_LIMIT:
        raise MediaError(Reason.UNSUPPORTED, f"{name} decodes in the child of a GPU alone")
    if not decoder.supports(media):
        raise MediaError(
            Reason.UNSUPPORTED,
            f"{name} does not claim {media.container}/{media.codec}/{media.pixel_format} of this "
            "kind",
        )
    cap_memory()
    with failures_as_reasons(Reason.DECODE_FAILED):
        decoded = decoder.decode(path, media, plan, size)
        geometry = decoded.geometry or displayed_geometry(path, media)
    put_frames(decoded.frames_FHWC, offset)
    num_frames, height_px, width_px, channels = decoded.frames_FHWC.shape
    return Decoded(
        shape=(num_frames, height_px, width_px, channels),
        is_exact_F=decoded.is_exact_F,
        geometry=geometry,
        note=decoded.note,
    )


@cache
def _decoder(name: str) -> Decoder:
    decoder: Decoder = DECODERS.load(name)()
    return decoder
