"""What keeping rows costs: frames, tokens and GPU hours by row; videos, hours and bytes by file.

A row costs a training step each time it comes: two rows about one video see its frames twice. A
file is stored, and moved, once, however many rows name it. Nothing is decoded or drawn for this:

* frames: what the sampling rule gives in an epoch on average, from duration and number of frames;
* tokens: frames times `tokens_per_frame`; visual ones only, text is not counted;
* GPU hours: tokens over `tokens_per_gpu_hour`, a figure that only a training run can give.

Shapes: N rows of a run, M of them in some order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import TIME_TOLERANCE_S
from vxp_data.core.sampling_plans import Policy, Rate, SamplingRule, draw_parts
from vxp_data.core.seeds import choose
from vxp_data.errors import UserError
from vxp_data.registry import SAMPLING_POLICIES

ROW_UNITS: Final = ("rows", "frames", "tokens", "gpu_hours")
"""What every kept row costs."""
FILE_UNITS: Final = ("videos", "hours", "bytes")
"""What a file costs once, however many kept rows name it."""
UNITS: Final = (*ROW_UNITS, *FILE_UNITS)

_DURATION_STEP_S: Final = 0.01
"""Rates are looked up by duration to so many seconds; frames are then counted exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """From frames to tokens to GPU hours."""

    tokens_per_frame: float = 36.0
    """Visual tokens that a frame takes, as the released Video-XL-Pro does it; 27 x 27 patches
    become 24 x 24, four frames are merged into one, and 2 x 2 pooled."""
    tokens_per_image: float = 144.0
    """Visual tokens of an image, which is four equal frames to the model."""
    tokens_per_gpu_hour: float | None = None
    """Visual tokens that a GPU trains on in an hour, from a run record of your own; None: unknown,
    and so are GPU hours."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"costs.{field.name}: got {value!r}, wanted a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCosts:
    """What N rows cost, each alone; `along` and `total` count a file once."""

    frames_N: NDArray[np.float64]
    """In an epoch, on average over epochs; 0 for a text-only row."""
    tokens_N: NDArray[np.float64]
    file_N: NDArray[np.int64]
    """Number of the row's file, from 0; -1 where it has none."""
    is_video_N: NDArray[np.bool_]
    """Images are files, but no videos."""
    duration_s_N: NDArray[np.float64]
    """Of the row's clip; a file counts with its longest clip."""
    num_bytes_N: NDArray[np.int64]
    """Of the whole file."""
    tokens_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        lengths = {n: len(a) for n, a in arrays.items() if isinstance(a, np.ndarray)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must have the same length, got {lengths}")

    def __len__(self) -> int:
        return len(self.frames_N)

    def units(self) -> tuple[str, ...]:
        """Return the units that are known: GPU hours only with a rate."""
        return UNITS if self.tokens_per_gpu_hour else tuple(u for u in UNITS if u != "gpu_hours")

    def along(self, order_M: NDArray[np.intp], unit: str) -> NDArray[np.float64]:
        """Add up what rows cost, taken one after the other.

        Args:
            order_M: rows, none twice.
            unit: one of UNITS.

        Returns:
            cost_M: float64; entry i is the cost of the first i + 1 rows together.

        Raises:
            UserError: GPU hours without a rate.
        """
        cost_N, by_file = self._cost(unit)
        cost_M = cost_N[order_M]
        if by_file:
            cost_M = np.where(_first_of_file(self.file_N[order_M]), cost_M, 0.0)
        along_M: NDArray[np.float64] = np.cumsum(cost_M)
        return along_M

    def total(self, row_M: NDArray[np.intp], unit: str) -> float:
        """Return what rows cost together; see `along`."""
        cost_N, by_file = self._cost(unit)
        if not by_file:
            return float(cost_N[row_M].sum())
        cost_F = np.zeros(int(self.file_N.max(initial=-1)) + 2)  # the last is what has no file
        cost_F[self.file_N[row_M]] = cost_N[row_M]
        return float(cost_F[:-1].sum())

    def _cost(self, unit: str) -> tuple[NDArray[np.float64], bool]:
        """Return what each row costs alone, and whether a file counts once."""
        if unit not in _COSTS:
            raise ValueError(f"unit must be one of {UNITS}, got {unit!r}")
        return _COSTS[unit](self), unit in FILE_UNITS

    def gpu_hours(self) -> NDArray[np.float64]:
        """Return each row's GPU hours.

        Raises:
            UserError: there is no rate.
        """
        if self.tokens_per_gpu_hour is None:
            raise UserError(
                "GPU hours: how many tokens a GPU trains on in an hour is not known. Give "
                "--tokens-per-gpu-hour, a number or the JSON record of a training run with it, or "
                "the setting costs.tokens_per_gpu_hour."
            )
        return self.tokens_N / self.tokens_per_gpu_hour

    def longest_hours(self) -> NDArray[np.float64]:
        """Return, for each row, the hours of its file's longest clip; 0 for images."""
        longest_s_F = np.zeros(int(self.file_N.max(initial=-1)) + 2)
        np.maximum.at(longest_s_F, self.file_N, np.where(self.is_video_N, self.duration_s_N, 0.0))
        longest_s_F[-1] = 0.0
        hours_N: NDArray[np.float64] = longest_s_F[self.file_N] / 3600
        return hours_N


_COSTS: Final[dict[str, Callable[[RowCosts], NDArray[np.float64]]]] = {
    "rows": lambda costs: np.ones(len(costs)),
    "frames": lambda costs: costs.frames_N,
    "tokens": lambda costs: costs.tokens_N,
    "gpu_hours": RowCosts.gpu_hours,
    "videos": lambda costs: costs.is_video_N.astype(np.float64),
    "hours": RowCosts.longest_hours,
    "bytes": lambda costs: costs.num_bytes_N.astype(np.float64),
}


def expected_frames(
    rule: SamplingRule, duration_s_N: NDArray[np.float64], frames_there_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Count the frames of a plan from a clip's length alone, on average over epochs.

    Equal to the plan's own number where frames are equally far apart; a video of varying rate has
    at most as many.

    Args:
        rule: what the user set.
        duration_s_N: float64, of the clips, 0 or more.
        frames_there_N: float64, frames in the clips; no plan has more.

    Returns:
        frames_N: float64, 1 or more.
    """
    sum_N, number_N = np.zeros(len(duration_s_N)), np.zeros(len(duration_s_N))
    for frames_N in _frames_by_choice(rule, duration_s_N, frames_there_N):
        sum_N += frames_N
        number_N += frames_N > 0
    mean_N: NDArray[np.float64] = sum_N / np.maximum(number_N, 1)
    return mean_N


def drawn_frames(
    rule: SamplingRule,
    sample_ids: Sequence[str],
    duration_s_N: NDArray[np.float64],
    frames_there_N: NDArray[np.float64],
    *,
    epoch: int,
) -> NDArray[np.float64]:
    """Count the frames of each row's own plan in one epoch, with the rate that is drawn for it.

    Args:
        rule: what the user set.
        sample_ids: N names.
        duration_s_N: float64, of the clips, 0 or more.
        frames_there_N: float64, frames in the clips.
        epoch: from 0.

    Returns:
        frames_N: float64, 1 or more; `expected_frames` is its mean over many epochs.
    """
    by_choice = _frames_by_choice(rule, duration_s_N, frames_there_N)
    frames_CN = np.stack([*by_choice, np.zeros(len(duration_s_N))])
    options_N = (frames_CN > 0).sum(axis=0).tolist()
    chosen = (
        choose(num, *draw_parts(rule, epoch, name)) if num > 1 else 0
        for num, name in zip(options_N, sample_ids, strict=True)
    )
    chosen_N = np.fromiter(chosen, dtype=np.int64, count=len(options_N))
    frames_N: NDArray[np.float64] = frames_CN[chosen_N, np.arange(len(chosen_N))]
    return frames_N


def _frames_by_choice(
    rule: SamplingRule, duration_s_N: NDArray[np.float64], frames_there_N: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Return, for each rate that a policy might draw, the frames it makes; 0 where it has fewer."""
    step_N = np.round(duration_s_N / _DURATION_STEP_S)
    # Policies are asked once a step of duration, not once a row: millions of rows have few.
    steps_U, index_N = np.unique(step_N, return_inverse=True)
    options = [_rates(rule, float(step) * _DURATION_STEP_S) for step in steps_U.tolist()]
    for choice in range(max(map(len, options), default=0)):
        there = [rates[choice] if choice < len(rates) else None for rates in options]
        fps_N = np.array([r.fps if r else 0.0 for r in there])[index_N]
        cap_N = np.array([min(r.max_frames, rule.max_frames) if r else 0 for r in there])[index_N]
        # Of n frames at r a second the last one begins at (n - 1) / r: ceil, not floor.
        moments_N = np.maximum(1, np.ceil((duration_s_N - TIME_TOLERANCE_S) * fps_N))
        frames_N = np.where(fps_N > 0, np.minimum(moments_N, cap_N), cap_N)
        yield np.where(cap_N > 0, np.maximum(1, np.minimum(frames_N, frames_there_N)), 0)


def _rates(rule: SamplingRule, duration_s: float) -> list[Rate]:
    """Ask a policy for every rate that it might draw at this duration."""
    policy: Policy = SAMPLING_POLICIES.load(rule.policy)
    asked: list[int] = []

    def first(num: int) -> int:
        asked.append(num)
        return 0

    # A policy does not list its rates: the first call tells how many it draws from.
    rates = [policy(rule, duration_s, first)]
    if asked:
        rates += [policy(rule, duration_s, _always(i)) for i in range(1, asked[0])]
    return rates


def _always(choice: int) -> Callable[[int], int]:
    return lambda num: min(choice, num - 1)


def _first_of_file(file_M: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark, of rows in order, the first of each file; rows without a file are never marked."""
    index_F = np.full(int(file_M.max(initial=-1)) + 2, -1, dtype=np.int64)
    index_F[file_M[::-1]] = np.arange(len(file_M))[::-1]  # of several, the last written stays
    first_M = np.zeros(len(file_M), dtype=np.bool_)
    first_M[index_F[:-1][index_F[:-1] >= 0]] = True
    return first_M
