"""`vxp-model needle`: trials, tables, heat maps and survival of one model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vxp_model.eval.adapters.ours import OurModel, OurSettings, weights_identity
from vxp_model.eval.needle.grid import grid_of
from vxp_model.eval.needle.heatmap import draw_heat_map, heat_table
from vxp_model.eval.needle.results import SCORES, NeedleResult, Summary
from vxp_model.eval.needle.run import Say, run_needle
from vxp_model.eval.needle.survival import (
    SelectorScores,
    SurvivalAt,
    describe_survival,
    run_survival,
)
from vxp_model.eval.store import write_json
from vxp_model.inference.placement import Placement
from vxp_model.inference.session import LongVideoModel
from vxp_model.settings.needle import NeedleRecipe

SUMMARY_NAME: Final = "needle.json"
_KINDS: Final = {"single": False, "chains": True}


def run_recipe(folder: Path, recipe: NeedleRecipe, say: Say, tell: Callable[[str], None]) -> None:
    """Run all trials of a recipe, write tables and images, print them.

    Args:
        folder: of a model of ours.
        recipe: the settings; `recipe.out` gets trials.jsonl, survival.jsonl, needle.json and a PNG
            for each rule.
        say: prints a line about progress.
        tell: prints a result.

    Raises:
        UserError: the model or the film cannot be read.
    """
    settings, out = recipe.model, Path(recipe.out)
    where = Placement.of(device=settings.device, dtype=settings.dtype, attention="auto")
    weights = weights_identity(folder, where)
    model = LongVideoModel.load(
        folder, device=where.device, dtype=where.dtype, attention=where.attention
    )
    reading = OurSettings(keep_ratio=settings.keep_ratio, context_limit=settings.context_limit)
    asked = OurModel(model, reading, weights=weights)
    grid = grid_of(recipe, frames_per_group=asked.frames_per_group)
    result = run_needle(
        asked,
        grid,
        out,
        say,
        options_likelihood=recipe.options_likelihood,
        forced=recipe.forced,
    )
    survival = []
    if recipe.survival:
        scorer = SelectorScores(model, weights)
        survival = run_survival(scorer, grid, recipe.survival, out, say)
    write_result(out, result, survival, name=folder.name)
    for line in describe(result, survival):
        tell(line)
    tell(f"trials, {SUMMARY_NAME} and heat maps in {out}")


def write_result(out: Path, result: NeedleResult, survival: list[SurvivalAt], *, name: str) -> None:
    """Write needle.json, and a heat map for each kind of needles and each rule."""
    found = result.to_dict() | {"survival": [one.to_dict() for one in survival]}
    write_json(out / SUMMARY_NAME, found)
    for kind, chains in _KINDS.items():
        if not result.trials(chains=chains):
            continue
        for score in result.scores:
            path = out / f"heat-{kind}-{score}.png"
            title = f"{name}, {kind}: {SCORES[score]}"
            draw_heat_map(result.cells(score, chains=chains), path, title=title)


def describe(result: NeedleResult, survival: list[SurvivalAt]) -> list[str]:
    """Return all tables as text."""
    lines = []
    for kind, chains in _KINDS.items():
        if not result.trials(chains=chains):
            continue
        for score in result.scores:
            summary = result.summary(score, chains=chains)
            lines += [f"{kind}: {SCORES[score]}", heat_table(result.cells(score, chains=chains))]
            lines.append(_in_words(summary))
            if chains:
                lines.append(f"both questions right {result.both_right(score):.3f}")
            lines.append("")
    lines.append(f"replies that name no option: {result.num_unparsed} of {len(result.outcomes)}")
    if survival:
        lines += ["", "needle tokens that the selector keeps", describe_survival(survival)]
    return lines


def _in_words(summary: Summary) -> str:
    words = f"right {summary.accuracy:.3f}"
    if summary.interval_95 is not None:
        words += " ({:.3f} to {:.3f})".format(*summary.interval_95)
    words += f" of {summary.num_trials}"
    if math.isnan(summary.control):
        return words
    return f"{words}; without needle {summary.control:.3f}, above {summary.above_control:.3f}"
