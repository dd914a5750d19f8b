"""`run`: a whole data recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vxp_data.commands.options import Address, EngineName, Set, Share, read_overrides, say
from vxp_data.errors import StoppedError


def run(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or a name: smoke/sft_data (pipelines/)."
        ),
    ],
    out: Annotated[
        str | None, typer.Option("--out", help="Instead of the recipe's own folder.")
    ] = None,
    address: Address = None,
    engine: EngineName = None,
    share: Share = None,
    settings: Set = None,
) -> None:
    """Make shards of annotated video: ingest, prune, near-duplicates, sample, shard.

    A step whose inputs have not changed is left out; one that was stopped goes on where it was.

    Example: vxp-data run smoke/sft_data
    """
    from vxp_data.commands.progress import PruneProgress, ShardProgress
    from vxp_data.pipeline.recipe.command import RecipeObserver, RecipeResult, run_recipe
    from vxp_data.report.sampling import sampling_figure
    from vxp_data.settings.data import load_data_recipe

    loaded = load_data_recipe(
        recipe, read_overrides(settings, out=out, address=address, engine=engine, share=share)
    )

    class Shown(RecipeObserver):
        prune = PruneProgress()
        shard = ShardProgress()

        def ended(self, step: str, what: str, wall_s: float) -> None:
            say(f"{step:<16} {what}  ({wall_s:.1f} s)")

        def skipped(self, step: str) -> None:
            say(f"{step:<16} unchanged, left out")

        def finished(self, result: RecipeResult) -> None:
            say("\n".join(result.accounting.lines()))
            say(f"Shards: {result.out.rstrip('/')}/shards, in {result.wall_s:.1f} s.")

    try:
        run_recipe(loaded, sampling_figure, Shown())
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped. What is done is kept: the same command goes on from there."
        ) from None
