"""Haystacks: a film that is drawn, as long as one wants, or the user's own.

Neither is ever held whole: 8,192 frames of 384 x 384 px are 3.6 GB.

Shape suffixes: H x W pixels, C = 3 (red, green, blue), T frames of a piece.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vxp_model.data.frames import FrameOptions
from vxp_model.data.video import VideoFile
from vxp_model.errors import UserError

DRAWING: Final = 1
"""Counts up with every change of what is drawn: kept answers are about one drawing."""
_SCENE_S: Final = (4, 13)
"""Of a scene, whole seconds: from, and below."""
_NUM_SHAPES: Final = (3, 7)
_STEP: Final = 0.04
"""That a shape moves in a second at most, of the frame's side."""
_GRAIN: Final = 10
"""Greatest brightness of the ground's grain, of 255."""
_CELLS: Final = 7
"""Of the ground's pattern, along a side."""


Frames = Generator[NDArray[np.uint8], None, None]


class Haystack(Protocol):
    """A long film, of which one takes as many frames as wanted."""

    identity: Mapping[str, Any]
    """What makes it another film; JSON."""
    width_px: int
    height_px: int
    num_bytes: int
    """Of its file; 0 where it is drawn."""

    def time_s(self, length: int) -> tuple[float, ...]:
        """Return when so many frames are shown, seconds."""
        ...

    def frames(self, length: int, *, frame_px: int | None) -> Frames:
        """Read so many frames, one after another; may be called again.

        Args:
            length: of them.
            frame_px: side of the square to which they are squashed; None: the film's own size.

        Yields:
            frame_HWC: uint8.
        """
        ...


def squash(frame_HWC: NDArray[np.uint8], *, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Return a frame in that size."""
    if frame_HWC.shape[:2] == (height_px, width_px):
        return frame_HWC
    image = Image.fromarray(frame_HWC)
    return np.asarray(image.resize((width_px, height_px), Image.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Something that moves through a scene; lengths are shares of the frame's side."""

    kind: str
    colour: tuple[int, int, int]
    radius: float
    start: tuple[float, float]
    step: tuple[float, float]
    """In a second."""
    turn: float
    """Radians a second."""


class DrawnFilm:
    """Scenes of some seconds with shapes that move over textured grounds, one frame a second.

    There is no writing in it, and no frame comes twice. It has no end: so many frames are its
    first ones.
    """

    def __init__(self, *, seed: int, side_px: int = 384) -> None:
        """Draw nothing yet.

        Args:
            seed: of all scenes.
            side_px: of the square frames.
        """
        self.identity: Mapping[str, Any] = {
            "film": "drawn",
            "drawing": DRAWING,
            "seed": seed,
            "side_px": side_px,
        }
        self.width_px = self.height_px = side_px
        self.num_bytes = 0
        self._seed = seed

    def time_s(self, length: int) -> tuple[float, ...]:
        """Return when so many frames are shown: one a second."""
        return tuple(float(second) for second in range(length))

    def frames(self, length: int, *, frame_px: int | None) -> Frames:
        """Draw so many frames; see `Haystack`."""
        drawn = scene = 0
        side_px = frame_px or self.width_px
        while drawn < length:
            for frame_HWC in self._scene(scene):
                if drawn == length:
                    return
                yield squash(frame_HWC, width_px=side_px, height_px=side_px)
                drawn += 1
            scene += 1

    def _scene(self, number: int) -> Iterator[NDArray[np.uint8]]:
        rng = np.random.default_rng([self._seed, number])
        seconds = int(rng.integers(*_SCENE_S))
        ground_HWC = _ground(rng, self.width_px)
        drift_px = rng.integers(-2, 3, 2)
        shapes = [_shape(rng) for _ in range(rng.integers(*_NUM_SHAPES))]
        for second in range(seconds):
            moved_HWC = np.roll(ground_HWC, tuple(drift_px * second), axis=(0, 1))
            image = Image.fromarray(moved_HWC)
            pen = ImageDraw.Draw(image)
            for shape in shapes:
                _draw(pen, shape, second, self.width_px)
            yield np.asarray(image)


class FileFilm:
    """The user's own film: so many of its frames at equal distances."""

    def __init__(self, uri: str | Path) -> None:
        """Look at the file.

        Args:
            uri: a path, or a URI of an object store.

        Raises:
            UserError: it is no video that can be read.
        """
        self.uri = str(uri)
        path = Path(self.uri)
        with VideoFile(self.uri) as file:
            media = file.probe.media
            self.width_px, self.height_px = media.width_px, media.height_px
            self._num_frames = media.num_frames
        self.num_bytes = path.stat().st_size if path.is_file() else 0
        # By name and size: a copy elsewhere is the same film.
        self.identity: Mapping[str, Any] = {"film": path.name, "num_bytes": self.num_bytes}
        self._times_s: dict[int, tuple[float, ...]] = {}

    def time_s(self, length: int) -> tuple[float, ...]:
        """Return when so many frames at equal distances are shown, seconds.

        Raises:
            UserError: it has fewer frames.
        """
        if length not in self._times_s:
            with VideoFile(self.uri) as file:
                plan = file.plan(num_frames=length, max_frames=length)
            if len(plan) != length:
                raise UserError(
                    f"{self.uri}: a haystack of {length:,} frames was asked for, and the film has "
                    f"{self._num_frames:,}. Take a longer film, shorter lengths "
                    "(--set lengths=[64,128]), or the drawn one."
                )
            self._times_s[length] = tuple(plan.time_s_F.tolist())
        return self._times_s[length]

    def frames(self, length: int, *, frame_px: int | None) -> Frames:
        """Decode so many frames; see `Haystack`."""
        with VideoFile(self.uri, options=FrameOptions(frame_px=frame_px)) as file:
            plan = file.plan(num_frames=length, max_frames=length)
            for frames_THWC in file.pieces(plan.frame_index_F):
                yield from frames_THWC


def _ground(rng: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    """Draw a ground: two colours that blend into each other in patches, with some grain."""
    low_C, high_C = rng.integers(30, 226, (2, 3))
    cells = Image.fromarray(rng.integers(0, 256, (_CELLS, _CELLS), dtype=np.uint8))
    blend_HW = np.asarray(cells.resize((side_px, side_px), Image.Resampling.BICUBIC)) / 255
    ground_HWC = low_C + blend_HW[..., None] * (high_C - low_C)
    grain_HW1 = rng.integers(-_GRAIN, _GRAIN + 1, (side_px, side_px, 1))
    drawn_HWC: NDArray[np.uint8] = (ground_HWC + grain_HW1).clip(0, 255).astype(np.uint8)
    return drawn_HWC


def _shape(rng: np.random.Generator) -> _Shape:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    angle, step = rng.uniform(0, 2 * math.pi), rng.uniform(_STEP / 4, _STEP)
    return _Shape(
        kind=str(rng.choice(["disc", "triangle", "square", "pentagon", "ring"])),
        colour=(red, green, blue),
        radius=float(rng.uniform(0.05, 0.16)),
        start=(float(rng.uniform(0, 1)), float(rng.uniform(0, 1))),
        step=(step * math.cos(angle), step * math.sin(angle)),
        turn=float(rng.uniform(-0.4, 0.4)),
    )


def _draw(pen: ImageDraw.ImageDraw, shape: _Shape, second: int, side_px: int) -> None:
    """Draw a shape where it is after so many seconds; it turns back at the edges."""
    x, y = (
        side_px * _folded(start + step * second)
        for start, step in zip(shape.start, shape.step, strict=True)
    )
    radius = side_px * shape.radius
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape.kind == "disc":
        pen.ellipse(box, fill=shape.colour)
    elif shape.kind == "ring":
        pen.ellipse(box, outline=shape.colour, width=max(1, round(radius / 4)))
    else:
        corners = {"triangle": 3, "square": 4, "pentagon": 5}[shape.kind]
        angles = [shape.turn * second + 2 * math.pi * k / corners for k in range(corners)]
        points = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
        pen.polygon(points, fill=shape.colour)


def _folded(place: float) -> float:
    """Return a place in [0, 1]: what runs out at an edge comes back from it."""
    place %= 2
    return 2 - place if place > 1 else place
