"""Clips of which most is redundant: a texture stands still, a patch moves over it.

Shape suffixes: T frames, H W pixels, C channels (RGB), N tokens of a frame, row by row.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

SIDE_PX: Final = 56
PATCH_PX: Final = 14
"""Of a token: the tiny preset's."""
OBJECT_PX: Final = 16
STEP_PX: Final = 4
"""That the patch moves from frame to frame."""
NUM_FRAMES: Final = 8
FPS: Final = 4
MOTIONS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
"""Classes, and the way of the patch in x and y."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip."""

    motion: str
    frames_THWC: NDArray[np.uint8]
    cover_TN: NDArray[np.float32]
    """Share of each token's pixels that the patch covers."""


def draw_clip(motion: str, rng: np.random.Generator) -> Clip:
    """Draw a clip: neither textures nor the patch's middle position tell the motion."""
    background_HWC = 0.1 + 0.35 * texture(rng, SIDE_PX, grain_px=14)
    patch_HWC = 0.55 + 0.45 * texture(rng, OBJECT_PX, grain_px=8)
    way = np.array(MOTIONS[motion])
    reach = STEP_PX * (NUM_FRAMES - 1) / 2
    room = (SIDE_PX - OBJECT_PX) / 2
    middle = (SIDE_PX - OBJECT_PX) / 2 + rng.uniform(-1, 1, 2) * (room - reach)
    frames, covers = [], []
    for t in range(NUM_FRAMES):
        x, y = np.round(middle + way * (STEP_PX * t - reach)).astype(int)
        frame_HWC, mask_HW = background_HWC.copy(), np.zeros((SIDE_PX, SIDE_PX))
        frame_HWC[y : y + OBJECT_PX, x : x + OBJECT_PX] = patch_HWC
        mask_HW[y : y + OBJECT_PX, x : x + OBJECT_PX] = 1
        frames.append((255 * frame_HWC).astype(np.uint8))
        side = SIDE_PX // PATCH_PX
        covers.append(mask_HW.reshape(side, PATCH_PX, side, PATCH_PX).mean((1, 3)).ravel())
    return Clip(
        motion=motion,
        frames_THWC=np.stack(frames),
        cover_TN=np.stack(covers).astype(np.float32),
    )


def write_clip(clip: Clip, path: Path) -> None:
    """Encode a clip, nearly without loss."""
    write_frames(clip.frames_THWC, path, fps=FPS, crf=10)


def write_frames(frames_THWC: NDArray[np.uint8], path: Path, *, fps: int, crf: int) -> None:
    """Encode images as H.264 in MP4.

    Args:
        frames_THWC: uint8 RGB, of even height and width.
        path: of the file; its folder is made.
        fps: frames per second.
        crf: x264's: 10 loses nearly nothing, 35 is coarse.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"preset": "veryfast", "crf": str(crf), "threads": "1"}
        )
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, fps)
        for number, frame_HWC in enumerate(frames_THWC):
            frame = VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def score_auc(scores_FN: NDArray[np.float32], clips: Sequence[Clip]) -> float:
    """Return how often a covered token scores above a still one of its frame.

    Covered: the patch has half of the token or more. Still: it has none of it, in this frame and in
    the one before.
    """
    cover_FN = np.concatenate([clip.cover_TN for clip in clips])
    before_FN = np.roll(cover_FN, 1, axis=0)
    before_FN[::NUM_FRAMES] = cover_FN[::NUM_FRAMES]
    shares = []
    for score_N, cover_N, before_N in zip(scores_FN, cover_FN, before_FN, strict=True):
        covered = score_N[cover_N >= 0.5][:, None]
        still = score_N[(cover_N == 0) & (before_N == 0)][None]
        if covered.size and still.size:
            shares.append(float(((covered > still) + 0.5 * (covered == still)).mean()))
    return statistics.fmean(shares)


def texture(rng: np.random.Generator, side_px: int, *, grain_px: int) -> NDArray[np.float64]:
    """Make smooth coloured noise in [0, 1]; `grain_px` is the size of its blobs."""
    knots = np.arange(0, side_px + grain_px, grain_px)
    small = rng.random((len(knots), len(knots), 3))
    at = np.arange(side_px)
    rows = np.stack([
        [np.interp(at, knots, small[:, column, channel]) for channel in range(3)]
        for column in range(len(knots))
    ])  # fmt: skip
    full = np.stack([
        [np.interp(at, knots, rows[:, channel, y]) for channel in range(3)]
        for y in range(side_px)
    ])  # fmt: skip
    texture_HWC: NDArray[np.float64] = full.transpose(0, 2, 1)
    return texture_HWC
