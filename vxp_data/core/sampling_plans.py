"""Variable-fps sampling: which frames of a video a training step sees.

A *rule* is what a user sets; a *plan* is what it gives for one sample in one epoch. A plan depends
on (rule, epoch, sample_id) and the video's own times, on nothing else, so that a stored plan and
one drawn later, elsewhere, from the stored rule are the same.

Shapes: N frames of a video in presentation order, F planned frames.

Times are seconds since the first presented frame, never decreasing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import (
    SELECTION_VERSION,
    TIME_TOLERANCE_S,
    frames_beginning,
    frames_shown,
)
from vxp_data.core.seeds import choose
from vxp_data.registry import SAMPLING_POLICIES

FINE_TUNE_FRAMES: Final = 240
"""The cap of `fine_tune_240`; paper section 4.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRule:
    """How many frames a training step sees of a video, and how often in a second."""

    policy: str = "variable"
    """A name in registry.SAMPLING_POLICIES."""
    max_frames: int = 360
    """No plan has more frames; paper section 3.3: 360."""
    short_video_s: float = 180.0
    """variable: up to here a video is short, seconds. Two frames a second fill the cap there."""
    candidates_fps: tuple[float, ...] = (2.0, 3.0, 4.0)
    """variable: rates for short videos, frames per second, ascending; one of those that keep within
    the cap is drawn anew for each sample and epoch."""
    long_fps: float = 1.0
    """variable: rate for long videos and for short ones that no candidate fits."""
    max_fps: float = 4.0
    """No rate is higher: candidates above it are not drawn."""
    fps: float = 1.0
    """fixed_fps: the rate, frames per second."""
    num_frames: int = 64
    """uniform_n: frames, spread over the whole video."""
    seed: int = 0
    """Another seed draws other rates; 64 bits, signed."""

    def __post_init__(self) -> None:
        SAMPLING_POLICIES.require(self.policy)
        for name in ("max_frames", "num_frames"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("short_video_s", "max_fps"):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "above 0")
        for name in ("long_fps", "fps"):
            fits = 0 < getattr(self, name) <= self.max_fps
            wanted = f"above 0, at most max_fps ({self.max_fps:g})"
            _require(fits, name, getattr(self, name), wanted)
        rates = self.candidates_fps
        rising = all(low < high for low, high in pairwise(rates))
        fits = len(rates) > 0 and rising and 0 < rates[0] <= self.max_fps and rates[-1] < math.inf
        wanted = (
            f"rates above 0, ascending, none twice, the first at most {self.max_fps:g} (max_fps)"
        )
        _require(fits, "candidates_fps", list(rates), wanted)
        _require(-(2**63) <= self.seed < 2**63, "seed", self.seed, "a signed 64-bit number")
        if self.policy == "uniform_n":
            fits = self.num_frames <= self.max_frames
            _require(fits, "num_frames", self.num_frames, f"at most max_frames ({self.max_frames})")

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON values: every field is there, each always of one type."""
        return {
            "policy": self.policy,
            "max_frames": int(self.max_frames),
            "short_video_s": float(self.short_video_s),
            "candidates_fps": [float(fps) for fps in self.candidates_fps],
            "long_fps": float(self.long_fps),
            "max_fps": float(self.max_fps),
            "fps": float(self.fps),
            "num_frames": int(self.num_frames),
            "seed": int(self.seed),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if odd := names.symmetric_difference(values):
            raise ValueError(f"a sampling rule has the fields {sorted(names)}; odd: {sorted(odd)}")
        return cls(**{**values, "candidates_fps": tuple(values["candidates_fps"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """Which frames of one video one sample sees in one epoch."""

    policy: str
    fps: float
    """The rate drawn, frames per second; 0 where frames lie at equal distances instead (above the
    cap, `uniform_n`), and for an image."""
    frame_index_F: NDArray[np.int64]
    """Indices in presentation order in the whole video, from 0, strictly increasing."""
    time_s_F: NDArray[np.float64]
    """When these frames are presented, in the whole video."""
    duration_s: float
    """Of the part that was planned: the clip, or the whole video."""
    source_fps: float
    max_frames: int
    """The cap in force."""
    seed: int
    epoch: int

    def __len__(self) -> int:
        """Return the number of planned frames, F."""
        return len(self.frame_index_F)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a policy gives: frames per second, or 0 for frames at equal distances; and a cap."""

    fps: float
    max_frames: int


Pick = Callable[[int], int]
"""num -> one of [0, num), the same for the same seed, epoch and sample."""

Policy = Callable[[SamplingRule, float, Pick], Rate]
"""(rule, duration in seconds, pick) -> Rate. What registry.SAMPLING_POLICIES holds."""


def draw_plan(
    rule: SamplingRule,
    *,
    sample_id: str,
    epoch: int,
    time_s_N: NDArray[np.float64],
    duration_s: float,
    source_fps: float,
    clip_start_s: float = 0.0,
    clip_end_s: float = math.inf,
    selection_version: int = SELECTION_VERSION,
) -> SamplingPlan:
    """Plan the frames that a sample sees in an epoch.

    At a rate, the frames are those shown at clip_start_s + k / fps, k = 0, 1, ..., before the end
    of the part; each frame once, so never more than there are. Where that is more than the cap, or
    the policy gives no rate: those shown at as many equally distant times from the start of the
    part to its last frame's time, both included. Variable frame rates need nothing special: only
    times are looked at.

    Args:
        rule: what the user set.
        sample_id: unique name of the sample.
        epoch: from 0.
        time_s_N: float64, presentation time of every frame of the video, N >= 1.
        duration_s: from the first frame's start to the last frame's end.
        source_fps: frames over duration; recorded, decides nothing.
        clip_start_s: start of the sample's part of the video, included.
        clip_end_s: end of it, excluded; infinity for the video's end.
        selection_version: which frames are the part's: `frame_sampling.SELECTION_VERSION`, or 1.

    Returns:
        A plan of 1 to `rule.max_frames` frames, all shown in the clip.

    Raises:
        ValueError: no frame is shown in the clip; times go backwards; a duration or epoch is
            negative.

    Source:
        Video-XL-Pro, sections 3.3 and 4.2. Frame k of a rate is the one shown at that time, where
        released loaders step by round(source_fps / fps) frames and so drift.
    """
    if not (0 <= duration_s < math.inf and epoch >= 0):
        raise ValueError(f"duration_s and epoch must be 0 or more, got {duration_s} and {epoch}")
    if selection_version == 1:
        within = frames_beginning(time_s_N, clip_start_s, clip_end_s)
    else:
        within = frames_shown(time_s_N, duration_s, clip_start_s, clip_end_s)
    if within.start == within.stop:
        raise ValueError(
            f"sample {sample_id!r}: none of {len(time_s_N)} frames is shown in "
            f"[{clip_start_s:g} s, {clip_end_s:g} s)"
        )
    # Of the first frame only what is shown in the part counts.
    time_s_P = np.maximum(time_s_N[within], max(clip_start_s, 0.0))
    start_s = max(clip_start_s, 0.0)
    part_s = max(min(clip_end_s, duration_s), float(time_s_P[-1])) - start_s
    policy: Policy = SAMPLING_POLICIES.load(rule.policy)
    rate = policy(rule, part_s, partial(_choose, draw_parts(rule, epoch, sample_id)))
    max_frames = min(rate.max_frames, rule.max_frames)
    fps = rate.fps
    index_F = _at_rate(time_s_P, start_s, part_s, fps) if fps else None
    if index_F is None or len(index_F) > max_frames:
        index_F, fps = _at_equal_distances(time_s_P, max_frames), 0.0
    index_F = index_F + within.start
    return SamplingPlan(
        policy=rule.policy,
        fps=fps,
        frame_index_F=index_F,
        time_s_F=time_s_N[index_F],
        duration_s=part_s,
        source_fps=source_fps,
        max_frames=max_frames,
        seed=rule.seed,
        epoch=epoch,
    )


def image_plan(rule: SamplingRule, *, epoch: int) -> SamplingPlan:
    """Plan an image: its one frame (an animated image's first), whatever the policy."""
    return SamplingPlan(
        policy=rule.policy,
        fps=0.0,
        frame_index_F=np.zeros(1, dtype=np.int64),
        time_s_F=np.zeros(1, dtype=np.float64),
        duration_s=0.0,
        source_fps=0.0,
        max_frames=rule.max_frames,
        seed=rule.seed,
        epoch=epoch,
    )


def variable(rule: SamplingRule, duration_s: float, pick: Pick) -> Rate:
    """Draw one of the candidates that keep a short video within the cap; else `long_fps`."""
    fitting = [
        fps
        for fps in rule.candidates_fps
        if fps <= rule.max_fps and num_moments(duration_s, fps) <= rule.max_frames
    ]
    if fitting and duration_s <= rule.short_video_s + TIME_TOLERANCE_S:
        return Rate(fitting[pick(len(fitting))], rule.max_frames)
    return Rate(rule.long_fps, rule.max_frames)


def fixed_fps(rule: SamplingRule, duration_s: float, pick: Pick) -> Rate:
    """Take the rule's `fps`, long videos and short."""
    del duration_s, pick
    return Rate(rule.fps, rule.max_frames)


def uniform_n(rule: SamplingRule, duration_s: float, pick: Pick) -> Rate:
    """Take `num_frames` frames at equal distances."""
    del duration_s, pick
    return Rate(0.0, rule.num_frames)


def fine_tune_240(rule: SamplingRule, duration_s: float, pick: Pick) -> Rate:
    """Take 1 frame a second, 240 at most: the paper's fine-tuning (section 4.2)."""
    del rule, duration_s, pick
    return Rate(1.0, FINE_TUNE_FRAMES)


def num_moments(duration_s: float, fps: float) -> int:
    """Count the times k / fps in [0, duration_s): ceil(duration_s * fps), and 1 at least."""
    return max(1, math.ceil((duration_s - TIME_TOLERANCE_S) * fps))


def draw_parts(rule: SamplingRule, epoch: int, sample_id: str) -> tuple[int | str, ...]:
    """Return what a draw depends on, as `seeds.choose` takes it."""
    return ("sampling", rule.seed, epoch, sample_id)


def _choose(parts: tuple[int | str, ...], num: int) -> int:
    return choose(num, *parts)


def _at_rate(
    time_s_P: NDArray[np.float64], start_s: float, part_s: float, fps: float
) -> NDArray[np.int64]:
    """Find the frames shown at start_s + k / fps; before the first frame, the first is shown.

    Work grows with the frames there are, not with the moments asked for: a damaged file may claim
    to last a thousand years.
    """
    # The first moment at or after which a frame is shown; the next frame takes over at its own.
    first_P = np.ceil((time_s_P - start_s - TIME_TOLERANCE_S) * fps)
    first_P[0] = 0
    until_P = np.append(first_P[1:], float(num_moments(part_s, fps)))
    return np.flatnonzero(until_P > first_P)


def _at_equal_distances(time_s_P: NDArray[np.float64], max_frames: int) -> NDArray[np.int64]:
    if len(time_s_P) <= max_frames:
        return np.arange(len(time_s_P), dtype=np.int64)
    target_s_F = np.linspace(time_s_P[0], time_s_P[-1], max_frames)
    shown_F = np.searchsorted(time_s_P, target_s_F + TIME_TOLERANCE_S, side="right") - 1
    return np.unique(shown_F)


def _require(fits: bool, name: str, got: object, wanted: str) -> None:
    if not fits:
        raise ValueError(f"sampling.{name}: got {got!r}, wanted {wanted}")
