"""`doctor` and `show-config`: what a run would check and be set to, before it spends anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.commands.options import (
    Address,
    Columns,
    EngineName,
    ManifestFormatName,
    Recipe,
    Set,
    column_overrides,
    load_settings,
    read_overrides,
    say,
)
from vxp_data.errors import UserError

if TYPE_CHECKING:
    from vxp_data.settings.file import Loaded


def doctor(
    manifests: Annotated[
        list[str] | None, typer.Argument(metavar="[MANIFEST]...", help="As for prune.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="Run directory: can it be written?")
    ] = None,
    media_root: Annotated[
        str | None, typer.Option("--media-root", help="Where media paths count from.")
    ] = None,
    format_name: ManifestFormatName = None,
    columns: Columns = None,
    recipe: Recipe = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="As for prune.")] = None,
    address: Address = None,
    engine: EngineName = None,
    settings: Set = None,
) -> None:
    """Check what a prune needs: decoders, isolation, weights, space, manifests, media, nodes.

    Example: vxp-data doctor train.json --media-root videos --out runs/a --encoder thumbnail
    """
    overrides = read_overrides(settings, encoder=encoder, address=address, engine=engine)
    overrides += column_overrides(columns)
    loaded = load_settings(recipe, overrides)
    from vxp_data.engines.choose import open_engine
    from vxp_data.manifests.datasets import resolve_datasets
    from vxp_data.manifests.samples import TaskRules
    from vxp_data.pipeline.embed.preflight import (
        Check,
        Verdict,
        check_machine,
        check_media,
        sample_of,
    )
    from vxp_data.pipeline.embed.preflight_manifests import check_manifests
    from vxp_data.pipeline.embed.preflight_nodes import check_nodes
    from vxp_data.pipeline.embed.run_encoder import settle_encoder
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.storage.folder import open_folder

    loaded, choice = settle_encoder(loaded, None if out is None else open_run(out))
    if choice is not None:
        say(str(choice))
    config = loaded.config
    num_failed = 0

    def show(check: Check) -> None:
        nonlocal num_failed
        num_failed += check.verdict is Verdict.FAILED
        say(f"{check.verdict:<8} {check}")

    folder = open_folder(out) if out is not None else None
    for check in check_machine(config, folder):
        show(check)
    media: list[str] = []
    if manifests:
        rules = TaskRules(field=config.tasks.field, mapping=config.tasks.map)
        datasets = resolve_datasets(manifests, media_root, format_name, config.manifest.columns)
        found, media = check_manifests(datasets, rules, config.manifest.max_bad_share)
        for check in found:
            show(check)
        show(check_media(sample_of(media)))
    if config.cluster.address is not None:
        with open_engine(config.cluster) as machines:
            for check in check_nodes(config, folder, sample_of(media), machines):
                show(check)
    if num_failed:
        raise UserError(f"{num_failed} checks failed; what to do stands beside each.")
    say("All that was checked will do.")


def show_config(
    recipe: Annotated[
        Path | None, typer.Argument(help="A YAML file, or a name; none: defaults.")
    ] = None,
    settings: Set = None,
) -> None:
    """Print every setting of a recipe, its value and where the value comes from.

    Example: vxp-data show-config prune --set frames.num_frames=8
    """
    from vxp_data.settings.recipe_kinds import load_any_recipe, setting_lines

    if recipe is None:
        loaded: Loaded[Any] = load_settings(None, read_overrides(settings))
    else:
        loaded = load_any_recipe(recipe, settings or ())
    for line in setting_lines(loaded):
        say(line)
