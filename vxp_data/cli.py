"""The `vxp-data` command. Heavy imports stand inside the commands: `--help` answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.commands import checks, datasets, recipe, reports, runs, shards
from vxp_data.commands.options import (
    Address,
    Recipe,
    Set,
    load_settings,
    read_overrides,
    say,
)
from vxp_data.commands.targets import (
    BudgetOption,
    Duplicates,
    Exclude,
    Keep,
    Measure,
    Threshold,
    TokensPerGpuHour,
    Weight,
    gpu_hour_rate,
    read_weights,
    targets,
    threshold_texts,
)
from vxp_data.errors import StoppedError, VxpError
from vxp_data.records import EXCLUDED_REASONS

if TYPE_CHECKING:
    from vxp_data.pipeline.run_record import PruneResult
    from vxp_data.settings.file import Loaded

app = typer.Typer(
    help="Curate video for training: a smaller, better data set out of a heap of annotated video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def prune(
    manifests: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST...",
            help="LLaVA JSON or JSONL, Parquet, CSV, a folder of videos, or a YAML mixture.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="Run directory to write (or go on with).")],
    media_root: Annotated[
        str | None,
        typer.Option("--media-root", help="Where media paths count from. [manifest's folder]"),
    ] = None,
    recipe: Recipe = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="'siglip', or 'thumbnail' (no weights needed).")
    ] = None,
    threshold: Threshold = None,
    keep: Keep = None,
    budget: BudgetOption = None,
    weights: Weight = None,
    tokens_per_gpu_hour: TokensPerGpuHour = None,
    measure: Measure = None,
    duplicates: Duplicates = None,
    exclude: Exclude = None,
    address: Address = None,
    settings: Set = None,
) -> None:
    """Keep the informative videos. Reads manifests and video, writes OUT, deletes nothing.

    Example: vxp-data prune train.json --media-root videos --out runs/a --keep 0.5
    """
    overrides = read_overrides(
        settings,
        encoder=("encoder.name", encoder),
        measure=("measure", measure),
        duplicates=("duplicates.mode", duplicates),
        exclude=("duplicates.exclude", exclude or None),
        address=("cluster.address", address),
        tokens_per_gpu_hour=("costs.tokens_per_gpu_hour", gpu_hour_rate(tokens_per_gpu_hour)),
    )
    for task, text in threshold_texts(threshold, keep, budget).items():
        overrides.append((f"thresholds.{task}", text, "command line"))
    for task, weight in read_weights(weights).items():
        overrides.append((f"budget_weights.{task}", weight, "--weight"))
    loaded = load_settings(recipe, overrides)
    from vxp_data.commands.progress import PruneProgress
    from vxp_data.manifests.datasets import resolve_datasets
    from vxp_data.pipeline.prune import prune as run_prune

    datasets = resolve_datasets(manifests, media_root)
    try:
        result = run_prune(datasets, loaded, out, PruneProgress())
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped. What was embedded is kept: the same command goes on from there."
        ) from None
    _show_result(result)


@app.command()
def decide(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Directory of a finished prune.")],
    threshold: Threshold = None,
    keep: Keep = None,
    budget: BudgetOption = None,
    weights: Weight = None,
    tokens_per_gpu_hour: TokensPerGpuHour = None,
    measure: Measure = None,
    duplicates: Duplicates = None,
    exclude: Exclude = None,
    settings: Set = None,
) -> None:
    """Decide again from kept scores: seconds, no video touched. Replaces RUN's kept rows.

    Example: vxp-data decide runs/a --keep 0.3 --threshold caption=0.8
    """
    from vxp_data.pipeline.redecide import redecide
    from vxp_data.registry import MEASURES

    if measure is not None:
        MEASURES.require(measure)
    by_task, default = targets(threshold, keep, budget)
    decided, used = redecide(
        run,
        measure=measure,
        thresholds=by_task,
        default=default,
        weights=read_weights(weights) or None,
        tokens_per_gpu_hour=gpu_hour_rate(tokens_per_gpu_hour),
        overrides=read_overrides(
            settings,
            duplicates=("duplicates.mode", duplicates),
            exclude=("duplicates.exclude", exclude or None),
        ),
    )
    _show_decided(decided, used)
    say(_closing(decided, run))


@app.command("show-config")
def show_config(
    recipe: Annotated[
        Path | None, typer.Argument(help="A YAML file, or a name; none: defaults.")
    ] = None,
    settings: Set = None,
) -> None:
    """Print every setting of a prune or a data recipe, its value and where the value comes from.

    Example: vxp-data show-config prune --set frames.num_frames=8
    """
    from vxp_data.settings.data import is_data_recipe, load_data_recipe

    overrides = read_overrides(settings)
    loaded: Loaded[Any]
    if recipe is not None and is_data_recipe(recipe):
        loaded = load_data_recipe(recipe, overrides)
    else:
        loaded = load_settings(recipe, overrides)
    width = max(len(origin.key) for origin in loaded.origins)
    for origin in loaded.origins:
        say(f"{origin.key:<{width}}  {origin.value!r:<28}  {origin.origin}")


app.command()(datasets.ingest)
app.add_typer(datasets.mixture, name="mixture")
app.command()(recipe.run)
app.command()(reports.plan)
app.command()(reports.compare)
app.command()(reports.report)
app.command()(runs.retry)
app.command()(shards.sample)
app.command()(checks.doctor)
app.command()(shards.shard)
app.command()(runs.verify)
app.command()(shards.export)


@app.command()
def version() -> None:
    """Print the version."""
    from vxp_data import __version__

    say(__version__)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user can fix it, 3 `expect:` not met."""
    try:
        app()
    except VxpError as error:
        say(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def _show_result(result: PruneResult) -> None:
    from vxp_data.report.terminal import example_lines

    counts = result.counts
    if lines := example_lines(counts.tasks, counts.examples):
        say("Task subsets by the rules over the conversation, one question of each:")
        say("\n".join(lines))
    for number, words in (
        (counts.ids_missing, "rows had no id; theirs comes from their content"),
        (counts.ids_repeated, "rows repeat an id; theirs ends in '#2', '#3' ..."),
        (counts.rows_mixed, "rows mix kinds of question; the more frequent kind counts"),
        (counts.absolute_paths, "rows name their media by an absolute path"),
    ):
        if number:
            say(f"{number:>6}  {words}")
    for value, number in counts.unknown_tasks.items():
        say(f"{number:>6}  rows have the unknown task {value!r}; the rules decided")
    if result.changed:
        names = ", ".join(result.changed[:3]) + (", ..." if len(result.changed) > 3 else "")
        say(f"{len(result.changed):>6}  files have another content than before: {names}")
    _show_decided(result.decided, result.measure)
    say(
        f"{result.num_files} files read in {result.wall_s:.1f} s "
        f"(decoding {result.totals.decode_cpu_s:.1f} CPU-s, "
        f"embedding {result.totals.embed_cpu_s:.1f} CPU-s)."
    )
    say(_closing(result.decided, result.out))


def _show_decided(decided: Any, measure: str) -> None:
    from vxp_data.report.terminal import reason_lines, subset_table

    say(subset_table(decided.subsets))
    say(f"Thresholds are on {measure}.")
    if exclude := {name: n for name, n in decided.reasons.items() if name in EXCLUDED_REASONS}:
        say("Set aside before the threshold:")
        say("\n".join(reason_lines(exclude)))
    if decided.num_relinked:
        say(f"{decided.num_relinked:>6}  kept rows name the video that theirs is a duplicate of")
    if decided.num_unmeasured:
        say(
            f"{decided.num_unmeasured:>6}  captions have not been compared with their images, "
            "and stay: `prune` with this filter and encoder siglip compares them"
        )
    if decided.quarantined_by_reason:
        say("Quarantined:")
        say("\n".join(reason_lines(decided.quarantined_by_reason)))


def _closing(decided: Any, out: str) -> str:
    kept = ", ".join(f"{out.rstrip('/')}/{name}" for name in decided.outputs)
    duplicates = f"{decided.num_duplicates} duplicates, " if decided.num_duplicates else ""
    return (
        f"{decided.num_in} rows in: {decided.num_kept} kept, {decided.num_pruned} pruned, "
        f"{duplicates}{decided.num_quarantined} quarantined. Kept rows: {kept}"
    )
