"""What training draws for a sample by itself: a window, seeds for its masks, whether it has one.

A draw follows from the seed, the epoch and the sample's position in the epoch alone: it is the same
in whatever batch, process or resumed run the sample comes up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vxp_data.core.seeds import choose, hash64
from vxp_data.shard_format import PlanRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRule:
    """Which frames of a plan are shown."""

    num_frames: int
    """Frames of a window; a plan with no more is shown whole."""
    seed: int = 0
    """Another seed gives other windows."""

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"a window has 1 frame or more, got {self.num_frames}")


def cut_window(plan: PlanRecord, rule: WindowRule, *, epoch: int, position: int) -> PlanRecord:
    """Cut a run of neighbouring frames out of a plan, every run equally often over many draws.

    Args:
        plan: of a video; an image's has one frame and stays.
        rule: length and seed.
        epoch: of the draw.
        position: the sample's position in the epoch's order.
    """
    num_windows = len(plan.frame_index) - rule.num_frames + 1
    if num_windows <= 1:
        return plan
    start = choose(num_windows, "window", rule.seed, epoch, position)
    shown = slice(start, start + rule.num_frames)
    return replace(plan, frame_index=plan.frame_index[shown], time_s=plan.time_s[shown])


def mask_seed(seed: int, *, epoch: int, position: int, group: int) -> int:
    """Return the seed of the noise that masks one group of a sample: 64 bits."""
    return hash64("mask", seed, epoch, position, group)


def is_whole(seed: int, *, epoch: int, position: int, share: float) -> bool:
    """Return whether nothing of a sample is masked, which is so with the chance `share`."""
    return hash64("whole", seed, epoch, position) < share * 2**64


def selector_seed(seed: int, *, epoch: int, position: int, sequence: int = 0) -> int:
    """Return the seed of the share of a sample's tokens that the selector leaves out: 64 bits.

    A sample of several sequences draws for each of them.
    """
    return hash64("selector", seed, epoch, position, sequence)
