"""`thumbnail`'s vectors of frames that were decoded for another encoder, kept beside that one's.

An encoder that has learned what images show tells a mirrored or cropped copy, and may miss one of
half the size: it sees the codec's blocks. `thumbnail` is the other way round, and costs next to
nothing where frames are there already.

Shapes: F frames of p x p pixels, C = 3 colours, D = 960.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.encoders.base import fingerprint
from vxp_data.encoders.thumbnail import FRAME_PX, ThumbnailEncoder

NAME: Final = ThumbnailEncoder.spec.name
BESIDE_DIM: Final = ThumbnailEncoder.spec.dim
_SHRINK_VERSION: Final = 1
_ENCODER: Final = ThumbnailEncoder()
_CODES: Final = 1270
"""Steps of 1 that a component is stored in: int8 reaches 0.1, the greatest component is 0.067."""


@cache
def beside_fingerprint() -> str:
    """Return the fingerprint of such vectors, of whatever frames the encoder beside takes."""
    return fingerprint({"beside": ThumbnailEncoder.spec.fingerprint, "shrink": _SHRINK_VERSION})


def embed_beside(frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed square images of any size; see `ThumbnailEncoder.embed`.

    Args:
        frames_FHWC: uint8 RGB [F, p, p, 3].

    Returns:
        emb_FD: float32 [F, 960], unit rows, the same bits on every machine.
    """
    return _ENCODER.embed(shrink(frames_FHWC, FRAME_PX))


def packed(emb_FD: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return vectors as they are stored: a third of the bytes that float16 takes on a disk.

    Cosines move by some 1e-4, less than what coding a video again does to them.
    """
    codes_FD: NDArray[np.int8] = np.clip(np.rint(emb_FD * _CODES), -127, 127).astype(np.int8)
    return codes_FD


def unpacked(value: bytes | memoryview, num_frames: int) -> NDArray[np.float16]:
    """Return stored vectors, float16 [F, 960], of norm 1 to within 0.01.

    Args:
        value: of a clip, as `packed` has them.
        num_frames: F.

    Raises:
        ValueError: the value is not of so many frames.
    """
    codes = np.frombuffer(value, dtype=np.int8)
    if len(codes) != num_frames * BESIDE_DIM:
        raise ValueError(f"{len(codes)} bytes of `thumbnail`'s vectors for {num_frames} frames")
    emb_FD: NDArray[np.float16] = (codes.astype(np.float32) / _CODES).astype(np.float16)
    return emb_FD.reshape(num_frames, BESIDE_DIM)


def shrink(frames_FHWC: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resample square images by area: a pixel is the mean of what it covers, rounded.

    Args:
        frames_FHWC: uint8 RGB [F, p, p, 3].
        side_px: side of the result.

    Returns:
        uint8 [F, side_px, side_px, 3].
    """
    num_frames, from_px = len(frames_FHWC), frames_FHWC.shape[1]
    share_Pp, whole = _shares(from_px, side_px)
    if 255 * whole * whole < 1 << 24:  # float32 holds every sum, in half the time
        share_Pp = share_Pp.astype(np.float32)
    small_FHWC = np.empty((num_frames, side_px, side_px, 3), np.uint8)
    for frame in range(num_frames):
        # Whole numbers that floats hold exactly: no order of summation changes a bit.
        rows_PWC = (share_Pp @ frames_FHWC[frame].reshape(from_px, -1)).reshape(side_px, from_px, 3)
        sums_PPC = share_Pp @ rows_PWC
        small_FHWC[frame] = np.floor(sums_PPC / (whole * whole) + 0.5)
    return small_FHWC


@cache
def _shares(from_px: int, side_px: int) -> tuple[NDArray[np.float64], int]:
    """Return how much of each of `from_px` pixels each of `side_px` covers, and the sum of a row.

    In units of which both a pixel and a result are a whole number.
    """
    common = math.gcd(from_px, side_px)
    pixel, result = side_px // common, from_px // common
    start_p, start_P = np.arange(from_px) * pixel, np.arange(side_px) * result
    ends = np.minimum(start_p[None] + pixel, start_P[:, None] + result)
    shares = np.maximum(0, ends - np.maximum(start_p[None], start_P[:, None]))
    return shares.astype(np.float64), result
