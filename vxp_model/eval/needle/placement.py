"""Where needles go, and the video with them in it.

Shape suffixes: T frames of a piece, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import FramePlan
from vxp_model.eval.needle.haystack import Haystack, squash

Mode = Literal["insert", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which frames of a video are needles."""

    length: int
    """Frames of the haystack."""
    mode: Mode
    """'insert': needles come on top of the haystack's frames; 'replace': instead of them."""
    at: tuple[int, ...] = ()
    """Frames of the video that are shown, counted from 0, in their order."""

    @property
    def num_frames(self) -> int:
        """Of the video that is shown."""
        return self.length + (len(self.at) if self.mode == "insert" else 0)

    def groups(self, frames_per_group: int) -> tuple[int, ...]:
        """Return the groups of frames in which there is a needle."""
        return tuple(dict.fromkeys(index // frames_per_group for index in self.at))


def place(
    length: int,
    befores: Sequence[int],
    *,
    mode: Mode,
    num_each: int = 1,
    offset: int | None = None,
    frames_per_group: int = 4,
) -> Placement:
    """Put images before frames of a haystack, or in their place.

    Args:
        length: frames of the haystack.
        befores: frames before which images go, 0 to `length`; ascending. To replace, they take the
            places from there on; at the end, the last ones.
        mode: see `Placement`.
        num_each: images that go to each of these places, one right behind the other.
        offset: place within its group of frames to which the first of them is moved, the shortest
            way, to the earlier of two; None: it stays where it falls.
        frames_per_group: frames that are encoded together.

    Raises:
        UserError: two images fall on one frame: the haystack is too short for them.
    """
    num_images = len(befores) * num_each
    num_frames = length + (num_images if mode == "insert" else 0)
    at: list[int] = []
    for before in befores:
        index = before + len(at) if mode == "insert" else min(before, length - num_each)
        if offset is not None:
            index = _aligned(index, offset, frames_per_group, num_frames - num_each)
        at += range(index, index + num_each)
    if at[0] < 0 or any(later <= earlier for earlier, later in pairwise(at)):
        raise UserError(
            f"{len(at)} images have no room of their own in a haystack of {length} frames: take a "
            "longer one."
        )
    return Placement(length=length, mode=mode, at=tuple(at))


def at_depth(length: int, depth: float) -> list[int]:
    """Return before which frame a single needle goes: int(length * depth), as LongVA has it."""
    return [int(length * depth)]


def spread(length: int, count: int) -> list[int]:
    """Return before which frames a chain goes: evenly, the first before 0, the last at the end.

    Source: VideoChat-Flash's multi-hop needles.
    """
    return [number * length // (count - 1) for number in range(count)]


class HaystackVideo:
    """A haystack with needles in it, or without: a `FrameSource`."""

    def __init__(
        self,
        haystack: Haystack,
        placement: Placement,
        images: Sequence[NDArray[np.uint8]] = (),
        *,
        name: str,
    ) -> None:
        """Hold the images; frames of the haystack are read when they are asked for.

        Args:
            haystack: of `placement.length` frames or more.
            placement: of the images.
            images: HWC each, squashed to the size of the haystack's frames.
            name: unique in a grid.
        """
        self.placement = placement
        self._haystack = haystack
        self._images = dict(zip(placement.at, images, strict=True))
        times_s = _times_s(haystack.time_s(placement.length), placement)
        self.plan = FramePlan(
            video=name,
            frame_index=tuple(range(placement.num_frames)),
            time_s=times_s,
            duration_s=times_s[-1] + _step_s(times_s),
            width_px=haystack.width_px,
            height_px=haystack.height_px,
            num_bytes=haystack.num_bytes,
        )

    def pieces(self, *, frame_px: int | None, piece_frames: int) -> Iterator[NDArray[np.uint8]]:
        """Read the frames, a few at a time; see `FrameSource`."""
        piece: list[NDArray[np.uint8]] = []
        for frame_HWC in self._frames(frame_px):
            piece.append(frame_HWC)
            if len(piece) == piece_frames:
                yield np.stack(piece)
                piece = []
        if piece:
            yield np.stack(piece)

    def _frames(self, frame_px: int | None) -> Iterator[NDArray[np.uint8]]:
        haystack, replaces = self._haystack, self.placement.mode == "replace"
        width_px = frame_px or haystack.width_px
        height_px = frame_px or haystack.height_px
        with closing(haystack.frames(self.placement.length, frame_px=frame_px)) as film:
            for index in range(self.placement.num_frames):
                if index in self._images:
                    yield squash(self._images[index], width_px=width_px, height_px=height_px)
                    if replaces:
                        next(film)
                else:
                    yield next(film)


def _times_s(film_s: Sequence[float], placement: Placement) -> tuple[float, ...]:
    """Return when each frame is shown: what is inserted moves what comes later by one step."""
    if placement.mode == "replace" or not placement.at:
        return tuple(film_s)
    step_s = _step_s(film_s)
    needles, times_s, inserted = set(placement.at), list[float](), 0
    for index in range(placement.num_frames):
        own = index - inserted
        # Behind the film's last frame, a needle follows it at the same distance.
        own_s = film_s[own] if own < len(film_s) else film_s[-1] + step_s
        times_s.append(own_s + inserted * step_s)
        inserted += index in needles
    return tuple(times_s)


def _step_s(times_s: Sequence[float]) -> float:
    return (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else 1.0


def _aligned(index: int, offset: int, frames_per_group: int, last: int) -> int:
    first = index - index % frames_per_group + offset
    may_be = [first + step * frames_per_group for step in (-1, 0, 1)]
    inside = [one for one in may_be if 0 <= one <= last]
    if not inside:
        raise UserError(
            f"no needle can be number {offset} of its group of {frames_per_group} frames in so "
            "short a video: take a longer haystack."
        )
    return min(inside, key=lambda one: (abs(one - index), one))
