"""Clips of moving shapes with questions that only the video answers.

Two kinds of clip. In one, 1 to 4 discs of one colour move side by side in one direction over a
noisy ground: asked are colour, direction and count. In the other, a larger disc stands still, of
one colour at first and of another later: asked is which colour comes first, or last. Options always
stand in the same order, and every answer is as frequent as the others: the words of a question tell
nothing of its answer. A clip played backwards is one that moves the other way, or whose first and
last colour are exchanged, and as likely: who sees the frames without their order is right about
direction and order half of the time at best.

Shape suffixes: T frames, H W pixels, C channels (RGB).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

SIDE_PX: Final = 56
"""Of a frame: the tiny preset's input."""
RADIUS_PX: Final = 6
"""Of a disc that moves."""
LARGE_RADIUS_PX: Final = 12
"""Of one that stands still."""
PATH_PX: Final = 32
"""That a disc would move in as many steps as there are frames."""
GROUND: Final = (108, 148)
"""Greys of the noise: from, and below."""
NUM_LANES: Final = 4
"""In which discs move."""
NUM_FRAMES: Final = 8
FPS: Final = 4
COLOURS: Final = {
    "red": (230, 40, 40),
    "green": (40, 230, 40),
    "blue": (40, 40, 230),
    "yellow": (230, 230, 40),
}
DIRECTIONS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
COUNTS: Final = ("1", "2", "3", "4")
LETTERS: Final = "ABCD"
QUESTIONS: Final = {
    "colour": ("What colour are they?", tuple(COLOURS)),
    "direction": ("Which way do they move?", tuple(DIRECTIONS)),
    "count": ("How many are there?", COUNTS),
    "order_first": ("Which colour is first?", tuple(COLOURS)),
    "order_last": ("Which colour is last?", tuple(COLOURS)),
}
"""What is asked, and the options; 'order_first' and 'order_last' are of the task 'order'."""
TASKS: Final = ("colour", "direction", "count", "order")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyClip:
    """One clip and the right option of each question about it."""

    frames_THWC: NDArray[np.uint8]
    answers: dict[str, str]
    """Key of QUESTIONS -> option."""


def draw_clips(count: int, *, seed: int, num_frames: int = NUM_FRAMES) -> list[ToyClip]:
    """Draw clips, three of moving discs to two of a disc that changes its colour.

    Every option of a question is right equally often, to within one clip. With more frames the same
    happens in more steps.
    """
    rng = np.random.default_rng(seed)
    num_moving = count * 3 // 5
    moving = _balanced(rng, num_moving, tuple(COLOURS), tuple(DIRECTIONS), COUNTS)
    clips = [_moving(colour, way, int(number), num_frames, rng) for colour, way, number in moving]
    names = list(COLOURS)
    pairs = [(names[i], names[(i + j) % 4]) for j in (1, 2, 3) for i in range(4)]
    own = [pairs[i % len(pairs)] for i in range(count - num_moving)]
    clips += [_changing(*own[i], num_frames, rng) for i in rng.permutation(len(own))]
    return clips


def task_of(key: str) -> str:
    """Return the task of a key of QUESTIONS."""
    return key.partition("_")[0]


def write_rows(clips: Sequence[ToyClip], folder: Path, *, with_video: bool) -> Path:
    """Write clips and a manifest for each task, with a mixture over them.

    Args:
        clips: what is asked about.
        folder: of it all.
        with_video: False: the same questions and answers, and no clip.

    Returns:
        mixture: a YAML file for `vxp-data prune`.
    """
    rows: dict[str, list[dict[str, Any]]] = {task: [] for task in TASKS}
    folder.mkdir(parents=True)
    for number, clip in enumerate(clips):
        name = f"{number:05d}.mp4"
        if with_video:
            write_clip(clip.frames_THWC, folder / "videos" / name)
        for key, answer in clip.answers.items():
            words, options = QUESTIONS[key]
            asked = " ".join(
                [words, *(f"({a}) {b}" for a, b in zip(LETTERS, options, strict=True))]
            )
            row: dict[str, Any] = {"id": f"{number:05d}-{key}"}
            if with_video:
                row["video"] = name
                asked = f"<video>\n{asked}"
            row["conversations"] = [
                {"from": "human", "value": asked},
                {"from": "gpt", "value": LETTERS[options.index(answer)]},
            ]
            rows[task_of(key)].append(row)
    return write_mixture(rows, folder)


def write_mixture(rows: Mapping[str, Sequence[Any]], folder: Path) -> Path:
    """Write a manifest for each task's rows, and the mixture of them; return its path."""
    lines = ["datasets:"]
    for task, own in rows.items():
        (folder / f"{task}.json").write_text(json.dumps(own, indent=1), encoding="utf-8")
        lines.append(
            f"  - {{name: {task}, manifest: {task}.json, media_root: videos, task: {task}}}"
        )
    mixture = folder / "mixture.yaml"
    mixture.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return mixture


def write_clip(frames_THWC: NDArray[np.uint8], path: Path) -> None:
    """Encode a clip, nearly without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "crf": "10", "threads": "1"}
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIDE_PX, SIDE_PX, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for number, frame_HWC in enumerate(frames_THWC):
            frame = VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _balanced(
    rng: np.random.Generator, count: int, *options: Sequence[str]
) -> list[tuple[str, ...]]:
    """Draw so many choices of one of each; each option as often as its rivals, independently."""
    columns = []
    for own in options:
        column = [own[i % len(own)] for i in range(count)]
        columns.append([column[i] for i in rng.permutation(count)])
    return list(zip(*columns, strict=True))


def _moving(
    colour: str, way: str, number: int, num_frames: int, rng: np.random.Generator
) -> ToyClip:
    """Draw discs that move side by side, each in a lane of its own, over half of the image."""
    lane_px = SIDE_PX / NUM_LANES
    across_px_K = rng.permutation(NUM_LANES)[:number] * lane_px + lane_px / 2
    step_px = PATH_PX / num_frames
    slack_px = SIDE_PX - 2 * RADIUS_PX - (num_frames - 1) * step_px
    along_px_T = RADIUS_PX + rng.uniform(0, slack_px) + step_px * np.arange(num_frames)
    x, y = DIRECTIONS[way]
    if x + y < 0:
        along_px_T = SIDE_PX - along_px_T
    frames = [
        _image(
            [(along_px, across_px) if x else (across_px, along_px) for across_px in across_px_K],
            RADIUS_PX,
            colour,
            rng,
        )
        for along_px in along_px_T
    ]
    answers = {"colour": colour, "direction": way, "count": str(number)}
    return ToyClip(frames_THWC=np.stack(frames), answers=answers)


def _changing(first: str, last: str, num_frames: int, rng: np.random.Generator) -> ToyClip:
    """Draw a disc that is of one colour, and from about the middle of another."""
    centre = tuple(rng.uniform(LARGE_RADIUS_PX, SIDE_PX - LARGE_RADIUS_PX, 2))
    at = int(rng.integers(num_frames // 2 - 1, num_frames // 2 + 2))
    frames = [
        _image([centre], LARGE_RADIUS_PX, first if t < at else last, rng) for t in range(num_frames)
    ]
    return ToyClip(frames_THWC=np.stack(frames), answers={"order_first": first, "order_last": last})


def _image(
    centres: Sequence[tuple[float, float]], radius_px: int, colour: str, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw discs, each around x and y, over grey noise."""
    frame_HWC = rng.integers(*GROUND, (SIDE_PX, SIDE_PX, 1)).repeat(3, -1).astype(np.uint8)
    down_HW, right_HW = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
    for x, y in centres:
        frame_HWC[(right_HW - x) ** 2 + (down_HW - y) ** 2 <= radius_px**2] = COLOURS[colour]
    return frame_HWC
