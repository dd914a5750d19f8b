"""Clips of which most is redundant: a texture stands still, a patch moves over it.

In the scene `bright` the patch that moves, or stands still, is the brightest thing there is: what
changes and what stands out are one. In the scene `decoy` they differ: a bright patch stands still,
and the one whose motion is asked about is faint.

Shape suffixes: T frames, H W pixels, C channels (RGB), N tokens of a frame, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

SIDE_PX: Final = 56
OBJECT_PX: Final = 16
GRID: Final = 4
"""Tokens along a side: the tiny preset's, of 14 px."""
STEP_PX: Final = 4
"""That the patch moves from frame to frame."""
NUM_FRAMES: Final = 8
MOTIONS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
"""Classes, and the way of the patch in x and y."""
TINTS: Final = {
    "red": (1.0, 0.7, 0.7), "green": (0.7, 1.0, 0.7), "blue": (0.7, 0.7, 1.0), "grey": (0.8,) * 3,
}  # fmt: skip
"""Classes of what the patch looks like: what red, green and blue are multiplied by."""
Scene = Literal["bright", "decoy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip."""

    motion: str
    tint: str
    frames_THWC: NDArray[np.uint8]
    cover_TN: NDArray[np.float32]
    """Share of each token's pixels that the patch covers which moves or could."""
    decoy_TN: NDArray[np.float32]
    """The same of the bright patch that stands still; 0 where there is none."""


def draw_clips(
    count: int, *, seed: int, scene: Scene, scale: int = 1, grid: int = GRID
) -> list[Clip]:
    """Draw clips, motions and tints in equal parts.

    Args:
        count: of clips.
        seed: of all that is drawn.
        scene: which patches there are.
        scale: all lengths are so many times longer.
        grid: tokens along a side.
    """
    rng = np.random.default_rng(seed)
    kinds = [(motion, tint) for tint in TINTS for motion in MOTIONS]
    return [
        draw_clip(*kinds[number % len(kinds)], rng, scene=scene, scale=scale, grid=grid)
        for number in range(count)
    ]


def draw_clip(
    motion: str,
    tint: str,
    rng: np.random.Generator,
    *,
    scene: Scene = "bright",
    scale: int = 1,
    grid: int = GRID,
) -> Clip:
    """Draw a clip: neither textures nor the patch's middle position tell the motion."""
    side, size = SIDE_PX * scale, OBJECT_PX * scale
    ground_HWC = 0.1 + 0.35 * texture(rng, side, grain_px=14 * scale)
    low, height = (0.55, 0.45) if scene == "bright" else (0.45, 0.3)
    patch_HWC = low + height * texture(rng, size, grain_px=8 * scale)
    patch_HWC *= np.array(TINTS[tint])
    way = np.array(MOTIONS[motion])
    reach = STEP_PX * scale * (NUM_FRAMES - 1) / 2
    room = (side - size) / 2
    middle = room + rng.uniform(-1, 1, 2) * (room - reach)
    at_T2 = [
        np.round(middle + way * (STEP_PX * scale * t - reach)).astype(int)
        for t in range(NUM_FRAMES)
    ]
    decoy_HW = np.zeros((side, side))
    if scene == "decoy":
        x, y = _beside(at_T2, rng, side=side, size=size)
        decoy_HW[y : y + size, x : x + size] = 1
        ground_HWC[y : y + size, x : x + size] = 0.55 + 0.45 * texture(
            rng, size, grain_px=8 * scale
        )
    frames, covers = [], []
    for x, y in at_T2:
        frame_HWC, mask_HW = ground_HWC.copy(), np.zeros((side, side))
        frame_HWC[y : y + size, x : x + size] = patch_HWC
        mask_HW[y : y + size, x : x + size] = 1
        frames.append((255 * frame_HWC).astype(np.uint8))
        covers.append(_by_token(mask_HW, grid))
    return Clip(
        motion=motion,
        tint=tint,
        frames_THWC=np.stack(frames),
        cover_TN=np.stack(covers).astype(np.float32),
        decoy_TN=np.stack([_by_token(decoy_HW, grid)] * NUM_FRAMES).astype(np.float32),
    )


def _beside(
    at_T2: Sequence[NDArray[np.int_]], rng: np.random.Generator, *, side: int, size: int
) -> tuple[int, int]:
    """Draw a place for a patch that the other, on its way, does not touch."""
    way_T2 = np.array(at_T2)
    while True:
        place_2 = rng.integers(0, side - size, 2, endpoint=True)
        if (np.abs(way_T2 - place_2) >= size).any(1).all():
            return int(place_2[0]), int(place_2[1])


def _by_token(mask_HW: NDArray[np.float64], grid: int) -> NDArray[np.float64]:
    token_px = len(mask_HW) // grid
    cover_N: NDArray[np.float64] = mask_HW.reshape(grid, token_px, grid, token_px).mean((1, 3))
    return cover_N.ravel()


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
