"""The command that looks for needles in haystacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vxp_data.extras import INFERENCE, require_extra


def needle(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a trained model.")],
    out: Annotated[
        str | None, typer.Option("--out", help="Directory for trials, tables, heat maps.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="A YAML file, or a name: video_xl_pro/needle (pipelines/)."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Lengths: pro8k, longva, video_xl or videochat_flash."),
    ] = None,
    film: Annotated[
        str | None,
        typer.Option("--film", help="A file or URI, instead of drawn films, as the haystack."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. lengths=[64,128]."),
    ] = None,
) -> None:
    """Hide drawn signs in long films and ask for them; what of them does the selector keep?

    Downloads nothing: films and signs are drawn. Killed or stopped, the same command goes on.

    Examples: vxp-model needle runs/sft/model --out runs/needle

    vxp-model needle runs/sft/model --out runs/mine --film movie.mp4 --set lengths=[64,512]
    """
    require_extra("train", "`vxp-model needle`", INFERENCE)
    from vxp_data.settings.file import read_recipe
    from vxp_model.settings.needle import NEEDLE_RECIPES

    options = {"out": out, "preset": preset, "film": film}
    overrides: list[tuple[str, str, Any]] = [NEEDLE_RECIPES.parse_set(s) for s in settings or ()]
    overrides += [(key, value, f"--{key}") for key, value in options.items() if value is not None]
    tree = {} if recipe is None else read_recipe(recipe)
    loaded = NEEDLE_RECIPES.read(tree, str(recipe or "default"), overrides)
    from vxp_model.eval.needle.command import run_recipe

    run_recipe(model, loaded.config, lambda line: typer.echo(line, err=True), typer.echo)
