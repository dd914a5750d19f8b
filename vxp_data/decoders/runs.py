"""Planned frames of a video in runs of packets, each decoded forward from a key frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vxp_data.decoders.base import FramePlan


@dataclass(frozen=True, slots=True)
class Run:
    """Planned frames [first, last] of the plan, decoded from `start` to `end` (positions)."""

    first: int
    last: int
    start: int
    start_pts: int
    start_dts: int
    end: int


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
