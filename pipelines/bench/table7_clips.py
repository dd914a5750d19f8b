"""A pool of clips in which redundancy varies, each with one question: rows to choose from.

A coloured patch over a textured ground; asked is which way it moves, or which colour it has first.
A third of the pool are active clips: the patch crosses the image, or changes its colour in the
middle half. A third are still ones: it moves by 2 px at most, or never changes its colour, so that
the question can hardly be answered, or from any frame. A third are copies: clips of the first two
kinds again, darker and coarsely encoded, with the same question. In a third of all clips, of
whatever kind, the ground drifts, as with a camera that moves: frames that differ need not be frames
that tell.

Shape suffixes: T frames, H W pixels, C channels (RGB).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sgm_clips import OBJECT_PX, SIDE_PX, texture, write_frames

NUM_FRAMES: Final = 24
FPS: Final = 8
LETTERS: Final = "ABCD"
COLOURS: Final = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (60, 80, 235),
    "yellow": (230, 210, 40),
}
DIRECTIONS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Way of the patch in x and y."""
QUESTIONS: Final = {
    "direction": ("Which way does it move?", tuple(DIRECTIONS)),
    "order": ("Which colour is first?", tuple(COLOURS)),
}
"""By task: what is asked, and the options, always in this order."""
ACTIVE_PX: Final = (16.0, 32.0)
"""Way of an active patch over the whole clip, drawn between these."""
STILL_PX: Final = (0.0, 2.0)
TINT: Final = 0.3
"""Share of its colour in a patch; the rest is texture."""
DRIFT_PX: Final = (8, 24)
"""Way of a ground that drifts."""
DRIFT_SHARE: Final = 1 / 3
SCENES: Final = {
    "stone": (14, (1.0, 1.0, 1.0)),
    "grass": (7, (0.7, 1.3, 0.7)),
    "water": (28, (0.5, 0.9, 1.4)),
    "sand": (5, (1.4, 1.1, 0.6)),
}
"""Grounds: size of their blobs in px, and what red, green and blue are multiplied by."""
DARKER: Final = (0.85, 0.95)
"""What a copy's pixels are multiplied by."""
FINE_CRF: Final = 12
COARSE_CRF: Final = 30
"""x264's, of copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolClip:
    """One clip and its question."""

    task: str
    """A key of QUESTIONS."""
    answer: str
    active: bool
    """What is asked happens in the clip."""
    drifts: bool
    copy_of: int | None
    """Index in the pool of the clip that this one is made of."""
    frames_THWC: NDArray[np.uint8]


def draw_pool(size: int, *, seed: int) -> list[PoolClip]:
    """Draw a pool: a third active, a third still, a third copies of these, drawn with replacement.

    Args:
        size: of the pool, a multiple of 3 x 2 x 4: kinds, tasks and answers are equally many.
        seed: of all that is drawn.
    """
    if size % 24:
        raise ValueError(f"the pool's size must be a multiple of 24, got {size}")
    rng = np.random.default_rng(seed)
    clips = draw_clips(2 * size // 3, rng)
    indices = {task: [p for p, clip in enumerate(clips) if clip.task == task] for task in QUESTIONS}
    for own in indices.values():
        for index in rng.choice(own, size // 6):
            frames_THWC = (clips[index].frames_THWC * rng.uniform(*DARKER)).astype(np.uint8)
            copy = replace(clips[index], copy_of=int(index), frames_THWC=frames_THWC)
            clips.append(copy)
    return clips


def draw_clips(count: int, rng: np.random.Generator) -> list[PoolClip]:
    """Draw clips without copies, half of them active, tasks and answers equally many."""
    kinds = [
        (task, answer, active)
        for active in (True, False)
        for task, (_, options) in QUESTIONS.items()
        for answer in options
    ]
    return [draw_clip(*kinds[number % len(kinds)], rng) for number in range(count)]


def draw_clip(
    task: str,
    answer: str,
    active: bool,
    rng: np.random.Generator,
    *,
    scene: str = "stone",
    num_frames: int = NUM_FRAMES,
) -> PoolClip:
    """Draw one clip; the patch's middle position and the ground tell nothing of the answer.

    Args:
        task: a key of QUESTIONS.
        answer: one of its options.
        active: what is asked happens.
        rng: what is drawn with.
        scene: a key of SCENES.
        num_frames: of fewer the patch goes less far, at the same speed.
    """
    room_px = (SIDE_PX - OBJECT_PX) / 2
    way_2 = np.zeros(2)
    first = last = answer if task == "order" else str(rng.choice(list(COLOURS)))
    switch = num_frames
    if task == "direction":
        way_2 = np.array(DIRECTIONS[answer]) * rng.uniform(*(ACTIVE_PX if active else STILL_PX))
        way_2 *= num_frames / NUM_FRAMES
    elif active:
        last = str(rng.choice([name for name in COLOURS if name != first]))
        switch = int(rng.integers(num_frames // 4, 3 * num_frames // 4 + 1))
    middle_2 = room_px + rng.uniform(-1, 1, 2) * (room_px - np.abs(way_2) / 2)
    drifts = bool(rng.random() < DRIFT_SHARE)
    patch_HWC = 255 * (0.35 + 0.45 * texture(rng, OBJECT_PX, grain_px=8))
    patches = {
        name: ((1 - TINT) * patch_HWC + TINT * np.array(COLOURS[name])).astype(np.uint8)
        for name in (first, last)
    }
    grounds = _grounds(drifts, rng, scene, num_frames)
    frames = []
    for t, frame_HWC in enumerate(grounds):
        x, y = np.round(middle_2 + way_2 * (t / (num_frames - 1) - 0.5)).astype(int)
        frame_HWC[y : y + OBJECT_PX, x : x + OBJECT_PX] = patches[first if t < switch else last]
        frames.append(frame_HWC)
    return PoolClip(
        task=task,
        answer=answer,
        active=active,
        drifts=drifts,
        copy_of=None,
        frames_THWC=np.stack(frames),
    )


def write_rows(clips: Sequence[PoolClip], folder: Path, *, name: str) -> dict[str, Path]:
    """Write clips, and a manifest for each task.

    Args:
        clips: what is asked about.
        folder: of it all; clips are in its folder `videos`.
        name: leads file names and ids, which end in the clip's index: 'pool0-00017'.

    Returns:
        manifests: by task.
    """
    rows: dict[str, list[dict[str, Any]]] = {task: [] for task in QUESTIONS}
    for index, clip in enumerate(clips):
        file = f"{name}-{index:05d}.mp4"
        crf = FINE_CRF if clip.copy_of is None else COARSE_CRF
        write_frames(clip.frames_THWC, folder / "videos" / file, fps=FPS, crf=crf)
        words, options = QUESTIONS[clip.task]
        asked = " ".join(f"({letter}) {o}" for letter, o in zip(LETTERS, options, strict=True))
        answer = LETTERS[options.index(clip.answer)]
        rows[clip.task].append({
            "id": f"{name}-{index:05d}",
            "video": file,
            "conversations": [
                {"from": "human", "value": f"<video>\n{words} {asked}"},
                {"from": "gpt", "value": answer},
            ],
        })  # fmt: skip
    manifests = {task: folder / f"{name}-{task}.json" for task in QUESTIONS}
    for task, path in manifests.items():
        path.write_text(json.dumps(rows[task], indent=1), encoding="utf-8")
    return manifests


def _grounds(
    drifts: bool, rng: np.random.Generator, scene: str, num_frames: int
) -> list[NDArray[np.uint8]]:
    """Draw the ground of every frame."""
    most_px = DRIFT_PX[1]
    grain_px, tint_C = SCENES[scene]
    blobs_HWC = texture(rng, SIDE_PX + 2 * most_px, grain_px=grain_px)
    full_HWC = 255 * (0.1 + 0.35 * blobs_HWC) * np.array(tint_C)
    angle, far_px = rng.uniform(0, 2 * np.pi), rng.integers(*DRIFT_PX, endpoint=True) * drifts
    way_2 = far_px * np.array([np.cos(angle), np.sin(angle)])
    grounds = []
    for t in range(num_frames):
        x, y = np.round(most_px + way_2 * (t / (num_frames - 1) - 0.5)).astype(int)
        grounds.append(full_HWC[y : y + SIDE_PX, x : x + SIDE_PX].astype(np.uint8))
    return grounds
