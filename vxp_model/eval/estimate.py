"""What an evaluation takes on a GPU, computed from shapes and counts: starts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_model.errors import UserError, require
from vxp_model.eval.benchmarks.base import Benchmark
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.questions import counts_of
from vxp_model.eval.text_tables import table
from vxp_model.models.budget import GIGABYTE, ContextBudget
from vxp_model.models.flops import PEAK_TFLOPS, MllmFlops
from vxp_model.models.video_xl_pro_shape import ModelShape
from vxp_model.settings.eval import EvalRecipe

_TEXT: Final = 200
"""Positions of a question with its options and the template around it."""
_ACTIVATION_GB: Final = 8.0
"""Left beside what is computed, as `vxp-model frames` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkCost:
    """What one benchmark takes, at one number of frames for each video."""

    name: str
    num_videos: int
    num_questions: int
    num_frames: int
    """Of each video."""
    encode_flop: float
    """Of all videos, once each."""
    answer_flop: float
    """Reading the prompts of all questions; writing answers is small beside it."""
    memory_bytes: int
    """Weights, cache and visual tokens while the longest prompt is answered."""


def estimate_eval(
    recipe: EvalRecipe, shape: ModelShape, *, num_frames: int | None
) -> list[BenchmarkCost]:
    """Price every benchmark of a recipe.

    Args:
        recipe: the settings.
        shape: of the model.
        num_frames: of each video; None: those of a video as long as its makers say is the mean,
            or as many as the settings allow, where they do not say.
    """
    flops, budget = MllmFlops.of(shape, ()), ContextBudget.of(shape)
    limit = recipe.answer.context_limit or shape.context_limit
    found = []
    for own in recipe.benchmarks:
        benchmark, frames = load_benchmark(own.name), recipe.resolved(own).frames
        counts = _counts(benchmark, Path(own.data))
        most = frames.num_frames or frames.max_frames or 1
        wanted, length_s = num_frames, benchmark.about.mean_s
        if wanted is None and frames.num_frames is None and length_s is not None:
            wanted = max(1, round(length_s * (frames.fps or 1.0)))
        shown = most if wanted is None else min(wanted, most)
        cost = budget.cost(shown, num_text=_TEXT, context_limit=limit)
        kept = cost.num_positions
        if recipe.answer.keep_ratio is not None:
            kept = min(kept, _TEXT + round(recipe.answer.keep_ratio * cost.num_visual))
        groups = -(-shown // shape.temporal_factor)
        questions = min(counts["questions"], recipe.limit or counts["questions"])
        found.append(
            BenchmarkCost(
                name=own.name,
                num_videos=counts["videos"],
                num_questions=questions,
                num_frames=shown,
                encode_flop=counts["videos"] * (flops.frame * shown + flops.group * groups),
                answer_flop=questions
                * (flops.position * kept + flops.squared_position * float(kept) ** 2),
                memory_bytes=cost.total_bytes,
            )
        )
    return found


def describe_eval(costs: Sequence[BenchmarkCost], *, gpu: str, utilisation: float) -> str:
    """Return it in words, for the terminal.

    Args:
        costs: of `estimate_eval`.
        gpu: a name in PEAK_TFLOPS.
        utilisation: of its bf16 peak, in (0, 1].

    Raises:
        UserError: no such GPU; a number out of range.
    """
    if gpu not in PEAK_TFLOPS:
        raise UserError(f"unknown GPU {gpu!r}. Known: {', '.join(PEAK_TFLOPS)}.")
    require(0 < utilisation <= 1, f"--utilisation must be in (0, 1], got {utilisation}.")
    rate = PEAK_TFLOPS[gpu] * 1e12 * utilisation * 3600
    heads = ("benchmark", "videos", "questions", "frames", "encode h", "answer h", "GPU memory")
    rows = [
        (
            one.name,
            f"{one.num_videos:,}",
            f"{one.num_questions:,}",
            f"{one.num_frames:,}",
            f"{one.encode_flop / rate:,.2f}",
            f"{one.answer_flop / rate:,.2f}",
            f"{one.memory_bytes / GIGABYTE:,.1f} GB",
        )
        for one in costs
    ]
    hours = sum(one.encode_flop + one.answer_flop for one in costs) / rate
    lines = "\n".join(table([heads, *rows]))
    return (
        f"{lines}\n{hours:,.1f} GPU hours in all, decoding left out, at {utilisation:.0%} of an "
        f"{gpu.upper()}'s {PEAK_TFLOPS[gpu]:g} TFLOP/s; {_ACTIVATION_GB:g} GB more for activations"
    )


def _counts(benchmark: Benchmark, root: Path) -> Mapping[str, int]:
    """Count questions and videos: of the files where they are, else as published.

    Where nothing is published of videos, each question of the largest part counts as one.
    """
    if root.is_dir():
        return counts_of(list(benchmark.questions(root)))
    published = benchmark.expected
    questions = published.get("questions", 0)
    most = max((number for key, number in published.items() if "=" in key), default=questions)
    return {"questions": questions, "videos": published.get("videos", most)}
