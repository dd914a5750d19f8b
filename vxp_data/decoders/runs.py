"""Which stretches of packets are decoded for a plan, and what came of it.

Shapes: F planned frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.base import DecodedFrames, FramePlan
from vxp_data.errors import MediaError


@dataclass(frozen=True, slots=True)
class Run:
    """Planned frames [first, last] of the plan, decoded from `start` to `end` (positions)."""

    first: int
    last: int
    start: int
    start_pts: int
    start_dts: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What decoding a plan once gave."""

    frames: DecodedFrames | MediaError
    is_late_F: NDArray[np.bool_]
    """Planned frames that did not come, of a run whose first picture came after its key frame or
    not at all: they may come from further back."""

    @property
    def num_exact(self) -> int:
        """Planned frames that came."""
        return 0 if isinstance(self.frames, MediaError) else int(self.frames.is_exact_F.sum())

    def result(self) -> DecodedFrames:
        """Return the frames.

        Raises:
            MediaError: there is none.
        """
        if isinstance(self.frames, MediaError):
            raise self.frames
        return self.frames


def whole_run(plan: FramePlan) -> Run:
    """Return the one run that reads from the first packet to the last planned frame."""
    # From packet 0, which a file just opened reaches without a seek.
    return Run(0, len(plan) - 1, 0, 0, 0, int(plan.position_F.max()))


def runs_of(plan: FramePlan) -> Iterator[Run]:
    """Group planned frames whose stretches of packets overlap; runs come in decode order."""
    first, end = 0, int(plan.position_F[0])
    for i in range(1, len(plan)):
        if plan.start_position_F[i] > end:
            yield _run(plan, first, i - 1, end)
            first, end = i, int(plan.position_F[i])
        end = max(end, int(plan.position_F[i]))
    yield _run(plan, first, len(plan) - 1, end)


def _run(plan: FramePlan, first: int, last: int, end: int) -> Run:
    start = int(plan.start_position_F[first])
    return Run(first, last, start, int(plan.start_pts_F[first]), int(plan.start_dts_F[first]), end)


def begun_earlier(plan: FramePlan, is_late_F: NDArray[np.bool_]) -> FramePlan:
    """Let late frames be decoded from where the frames before them are; the first ones stay."""
    slot_F = np.arange(len(plan))
    for slot in np.flatnonzero(is_late_F):
        earlier = np.flatnonzero(plan.start_position_F < plan.start_position_F[slot])
        slot_F[slot] = earlier[-1] if len(earlier) else slot
    return replace(
        plan,
        start_position_F=plan.start_position_F[slot_F],
        start_pts_F=plan.start_pts_F[slot_F],
        start_dts_F=plan.start_dts_F[slot_F],
    )
