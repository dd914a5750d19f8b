"""Cut-outs of real videos, with questions whose answers are made: selector_board.py's `cutouts`.

A square of a video's frames over a short time. Asked is which way the square moves over them
(direction), which colour they are tinted with first (order), or how many times too fast they are
played (speed), which nobody can tell of a video that stands still. Videos are not equally frequent:
the n-th of the order drawn by the seed is as frequent as 1/n. Questions that are held out are about
other files, equally frequent; of a film that is there in several files, some may be in either part.

Shape suffixes: T frames, H W pixels, C channels (RGB).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from selector_pools import BenchClip, BenchRow, Pool
from sgm_clips import SIDE_PX
from table7_clips import COLOURS, DIRECTIONS, NUM_FRAMES, QUESTIONS

SHORT_SIDE_PX: Final = 88
"""Of a video's frames, before the square is cut out."""
MOST_S: Final = 60.0
"""Of a video that is read."""
MOST_FPS: Final = 25.0
WAY_PX: Final = (16.0, 28.0)
TINT: Final = 0.3
SPEEDS: Final = (1, 2, 4, 8)
"""Every n-th frame is shown."""
HELDOUT_SHARE: Final = 0.3
"""Of the videos."""
ASKED: Final = {
    "direction": ("Which way does the view move?", tuple(DIRECTIONS)),
    "order": QUESTIONS["order"],
    "speed": ("How many times too fast is it played?", tuple(map(str, SPEEDS))),
}


@functools.cache
def read_videos(folder: Path) -> Mapping[str, NDArray[np.uint8]]:
    """Read the videos of a folder that have frames enough, small: uint8 [T, H, W, 3] by name."""
    found = {path.stem: _read(path) for path in sorted(folder.iterdir())}
    return {name: frames for name, frames in found.items() if len(frames) >= 2 * NUM_FRAMES}


def _read(path: Path) -> NDArray[np.uint8]:
    frames: list[NDArray[np.uint8]] = []
    next_s = 0.0
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            at_s = float(frame.time or 0.0)
            if at_s > MOST_S:
                break
            if at_s + 1e-6 < next_s:
                continue
            next_s = at_s + 1 / MOST_FPS
            scale = SHORT_SIDE_PX / min(frame.width, frame.height)
            small = frame.reformat(
                width=max(SHORT_SIDE_PX, round(frame.width * scale)),
                height=max(SHORT_SIDE_PX, round(frame.height * scale)),
                format="rgb24",
            )
            frames.append(small.to_ndarray())
    if not frames:
        return np.zeros((0, SHORT_SIDE_PX, SHORT_SIDE_PX, 3), np.uint8)
    return np.stack([frame for frame in frames if frame.shape == frames[0].shape])


def draw_cutouts(
    videos: Mapping[str, NDArray[np.uint8]], size: int, heldout: int, *, seed: int
) -> Pool:
    """Draw the pool; no file is in both of its parts.

    Args:
        videos: see `read_videos`.
        size: rows that are chosen from.
        heldout: questions that are asked.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng([seed, 99])
    names = [sorted(videos)[index] for index in rng.permutation(len(videos))]
    num_held = round(len(names) * HELDOUT_SHARE)
    rows = _rows(videos, names[num_held:], size, rng, name=f"pool{seed}-cut", zipf=True)
    held = _rows(videos, names[:num_held], heldout, rng, name=f"heldout{seed}-cut", zipf=False)
    return Pool(rows=tuple(rows), heldout=tuple(held))


def _rows(
    videos: Mapping[str, NDArray[np.uint8]], names: Sequence[str], count: int,
    rng: np.random.Generator, *, name: str, zipf: bool,
) -> list[BenchRow]:  # fmt: skip
    share_V = 1 / np.arange(1, len(names) + 1) if zipf else np.ones(len(names))
    every = [(task, option) for task, (_, options) in ASKED.items() for option in options]
    rows = []
    for number in range(count):
        task, answer = every[number % len(every)]
        enough_V = np.array([len(videos[own]) >= _needed(task) for own in names])
        weight_V = share_V * enough_V
        own = names[int(rng.choice(len(names), p=weight_V / weight_V.sum()))]
        frames_THWC = _cut(videos[own], task, answer, rng)
        words, options = ASKED[task]
        rows.append(
            BenchRow(
                clip=BenchClip(name=f"{name}-{number:04d}", frames_THWC=frames_THWC),
                task=task, question=task, words=words, options=options, answer=answer,
                is_faulty=own == names[0],
            )
        )  # fmt: skip
    return rows


def _needed(task: str) -> int:
    """Return the frames that a video must have: for speed as many for every answer."""
    return NUM_FRAMES * (SPEEDS[-1] if task == "speed" else 1)


def _cut(
    video_THWC: NDArray[np.uint8], task: str, answer: str, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Cut a clip out of a video, and make the answer true of it."""
    every = int(answer) if task == "speed" else 1
    begin = int(rng.integers(len(video_THWC) - every * NUM_FRAMES + 1))
    shown_THWC = video_THWC[begin : begin + every * NUM_FRAMES : every]
    room_2 = np.array([shown_THWC.shape[2], shown_THWC.shape[1]]) - SIDE_PX
    way_2 = np.zeros(2)
    if task == "direction":
        way_2 = np.array(DIRECTIONS[answer]) * rng.uniform(*WAY_PX)
    middle_2 = room_2 / 2 + rng.uniform(-1, 1, 2) * (room_2 - np.abs(way_2)) / 2
    frames = []
    for t, frame_HWC in enumerate(shown_THWC):
        x, y = np.round(middle_2 + way_2 * (t / (NUM_FRAMES - 1) - 0.5)).astype(int)
        frames.append(frame_HWC[y : y + SIDE_PX, x : x + SIDE_PX])
    cut_THWC = np.stack(frames)
    return _tinted(cut_THWC, answer, rng) if task == "order" else cut_THWC


def _tinted(cut_THWC: NDArray[np.uint8], first: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Tint a clip with a colour, and from somewhere in its middle half with another."""
    last = str(rng.choice([name for name in COLOURS if name != first]))
    switch = int(rng.integers(NUM_FRAMES // 4, 3 * NUM_FRAMES // 4 + 1))
    tint_TC = np.array([COLOURS[first if t < switch else last] for t in range(NUM_FRAMES)])
    mixed_THWC = (1 - TINT) * cut_THWC + TINT * tint_TC[:, None, None, :]
    return mixed_THWC.astype(np.uint8)
