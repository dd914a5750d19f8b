"""`vxp-model check`: which rows a training cannot learn from, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vxp_data.settings.file import SettingsFile
    from vxp_model.settings.mllm import MllmRecipe
    from vxp_model.settings.recot import ReCoTRecipe, SourceSettings
    from vxp_model.train.mllm.text_limit import PromptLimit


def check(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or a name: video_xl_pro/sft (pipelines/)."
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. data.max_bad_share=0."),
    ] = None,
    ids: Annotated[int, typer.Option("--ids", min=0, help="Ids printed of each reason.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", dir_okay=False, help="Write all of them here, as JSON lines."),
    ] = None,
) -> None:
    """Find the rows that cannot be learned from, by the shards' indexes. Starts no training.

    Prints them by source, dataset and reason: no answer, media that are not where the conversation
    shows them, text longer than the context. A training leaves them out; it does not start where
    they are more than data.max_bad_share, and this ends with exit code 2 then.

    Example: vxp-model check video_xl_pro/sft --out bad_rows.jsonl
    """
    from vxp_model.data.row_check import check_rows
    from vxp_model.data.sources import read_rows
    from vxp_model.settings.mllm import MllmRecipe
    from vxp_model.train.datasets import read_shares
    from vxp_model.train.left_out import (
        check_table,
        describe_left_out,
        list_left_out,
        require_few,
        write_left_out,
    )
    from vxp_model.train.mixture import sources_of

    loaded = _training(recipe, settings or [])
    read_shares(loaded.data.mixture)  # as a training does
    sources: dict[str, Sequence[SourceSettings]] = {"data.sources": loaded.data.sources}
    limit = None
    reads_words = isinstance(loaded, MllmRecipe)
    if isinstance(loaded, MllmRecipe):
        limit = _limit(loaded)
        if loaded.validation.sources:
            sources["validation.sources"] = loaded.validation.sources
    found = {
        what: check_rows(read_rows(sources_of(own)), reads_words=reads_words, limit=limit)
        for what, own in sources.items()
    }
    for what, one in found.items():
        typer.echo(f"{what}: {describe_left_out(one)}\n{check_table(one)}")
        if one.left_out and ids:
            typer.echo(list_left_out(one, ids))
    if out is not None:
        write_left_out(out, found, [])
    for what, one in found.items():
        share = loaded.data.max_bad_share
        require_few(one, max_share=share, what=what, is_listed=ids > 0)


def datasets(recipe: MllmRecipe | ReCoTRecipe) -> str:
    """Return what `estimate` says of the datasets of a recipe's shards, if they are there."""
    from vxp_model.errors import UserError
    from vxp_model.train.estimate_datasets import describe_datasets

    try:
        return describe_datasets(recipe)
    except UserError as error:
        return f"{'datasets':<18} not told: {error}"


def _training(recipe: Path, settings: list[str]) -> MllmRecipe | ReCoTRecipe:
    """Read a recipe of either kind of training.

    Raises:
        UserError: it is of another kind, or cannot be read.
    """
    from vxp_data.settings.file import read_recipe
    from vxp_model.errors import UserError
    from vxp_model.settings.mllm import MLLM_RECIPES
    from vxp_model.settings.recot import RECIPES

    tree = read_recipe(recipe)
    if "data" not in tree:
        raise UserError(
            f"{recipe} has no section 'data': it is no recipe of a training. Name one for "
            "`vxp-model train` or `vxp-model recot`."
        )
    recipes: SettingsFile[Any] = MLLM_RECIPES if "stage" in tree else RECIPES
    overrides = [recipes.parse_set(text) for text in settings]
    config: MllmRecipe | ReCoTRecipe = recipes.read(tree, str(recipe), overrides).config
    return config


def _limit(recipe: MllmRecipe) -> PromptLimit | None:
    from vxp_model.train.mllm.text_limit import limit_before_start

    limit = limit_before_start(recipe)
    if limit is None:
        typer.echo(
            f"{recipe.start.model or recipe.start.llm!r} is not there yet: how long text may be is "
            "not looked at.",
            err=True,
        )
    return limit
