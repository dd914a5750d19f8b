"""`prune` and `decide`: which rows stay, and what the user is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.commands.options import (
    Address,
    Columns,
    EngineName,
    ManifestFormatName,
    Recipe,
    Run,
    Set,
    Share,
    column_overrides,
    load_settings,
    read_overrides,
    say,
)
from vxp_data.commands.targets import ExcludeOptions, KeepOptions, ScoreOptions
from vxp_data.errors import StoppedError
from vxp_data.records import is_excluding

if TYPE_CHECKING:
    from vxp_data.pipeline.run_record import PruneResult


def prune(
    manifests: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST...",
            help="LLaVA JSON or JSONL, Parquet, CSV, a folder of videos, or a YAML mixture.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="Run directory to write (or go on with).")],
    *,
    media_root: Annotated[
        str | None,
        typer.Option("--media-root", help="Where media paths count from. [manifest's folder]"),
    ] = None,
    format_name: ManifestFormatName = None,
    columns: Columns = None,
    recipe: Recipe = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="'siglip', 'efficientnet_lite0' (vxp[lite]), 'thumbnail' (no weights, no "
            "meaning), timm:NAME, open_clip:NAME, transformers. [the run's own, else the first of "
            "the three that can run here]",
        ),
    ] = None,
    keep: KeepOptions,
    excluded: ExcludeOptions,
    address: Address = None,
    engine: EngineName = None,
    share: Share = None,
    settings: Set = None,
) -> None:
    """Keep the informative videos. Reads manifests and video, writes OUT, deletes nothing.

    Example: vxp-data prune train.json --media-root videos --out runs/a --keep 0.5
    """
    overrides = read_overrides(
        settings, encoder=encoder, address=address, engine=engine, share=share
    )
    overrides += column_overrides(columns)
    loaded = load_settings(recipe, overrides + keep.overrides() + excluded.overrides())
    from vxp_data.commands.progress import PruneProgress
    from vxp_data.manifests.datasets import resolve_datasets
    from vxp_data.pipeline.prune import prune as run_prune

    datasets = resolve_datasets(manifests, media_root, format_name, loaded.config.manifest.columns)
    try:
        result = run_prune(datasets, loaded, out, PruneProgress())
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped. What was embedded is kept: the same command goes on from there."
        ) from None
    _show_result(result)
    config = loaded.config
    stated = [dataset for dataset in datasets if dataset.rows is not None]
    if stated and config.mixture.rows == "all" and not config.has_keep_mixture():
        say(
            f"Of {len(stated)} datasets the mixture states `rows`, which were not asked for: "
            f"vxp-data decide {out} --keep mixture takes so many of each by score; with --set "
            "mixture.rows=stated they are taken of what the thresholds leave."
        )


def decide(
    run: Run,
    *,
    keep: KeepOptions,
    excluded: ExcludeOptions,
    scores: ScoreOptions,
    settings: Set = None,
) -> None:
    """Decide again from kept scores: seconds, no video touched. Replaces RUN's kept rows.

    Example: vxp-data decide runs/a --keep 0.3 --threshold caption=0.8
    """
    from vxp_data.pipeline.redecide import redecide

    decided, used = redecide(
        run,
        **keep.changes(),
        overrides=read_overrides(settings) + excluded.overrides(),
        scores=scores.file(),
    )
    _show_decided(decided, used, run)
    say(_closing(decided, run))


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
        say(f"{len(result.changed):>6}  files have changed content: {names}")
    _show_decided(result.decided, result.measure, result.out)
    say(
        f"{result.num_files} files read in {result.wall_s:.1f} s "
        f"(decoding {result.totals.decode_cpu_s:.1f} CPU-s, "
        f"embedding {result.totals.embed_cpu_s:.1f} CPU-s)."
    )
    say(_closing(result.decided, result.out))


def _show_decided(decided: Any, measure: str, run: str) -> None:
    from vxp_data.core.per_cost import per_cost_unit
    from vxp_data.pipeline.run_dir.quarantine import first_messages
    from vxp_data.report.terminal import reason_lines, rows_table, subset_table

    say(subset_table(decided.subsets))
    unit = per_cost_unit(measure)
    own = " '-': none, or each dataset has its own, in decisions.parquet."
    has_rows = any(dataset.wanted is not None for dataset in decided.datasets)
    of_unit = f" Their unit is {unit}." if unit else ""
    say(f"Thresholds are on {measure}.{of_unit}{own if has_rows else ''}")
    if exclude := {name: n for name, n in decided.reasons.items() if is_excluding(name)}:
        say("Excluded before the threshold:")
        say("\n".join(reason_lines(exclude)))
    if rows := rows_table(decided.datasets):
        say(rows)
    if decided.num_relinked:
        say(f"{decided.num_relinked:>6}  kept rows name the video that theirs is a duplicate of")
    if decided.num_listed is not None:
        say(
            f"{decided.num_listed:>6}  rows are about copies or parts of other videos, and are "
            "judged like all others: see duplicates.parquet, or `vxp-data report`"
        )
    if decided.num_unseen:
        say(
            f"{decided.num_unseen:>6}  videos were compared for duplicates by the encoder's "
            "vectors alone: when they were embedded, `thumbnail`'s were not. A prune into a new "
            "directory makes both"
        )
    if inexact := sum(subset.inexact for subset in decided.subsets):
        say(
            f"{inexact:>6}  kept rows are about videos of which some frames could not be decoded; "
            "the nearest earlier frames stand in for them. `filters.exact_share` leaves such rows "
            "out"
        )
    if decided.num_unknown_scores:
        say(f"{decided.num_unknown_scores:>6}  scores are of rows that this run has not")
    if decided.num_unmeasured:
        say(
            f"{decided.num_unmeasured:>6}  captions have not been compared with their images, "
            "and stay: `prune` with this filter and encoder siglip compares them"
        )
    if decided.quarantined_by_reason:
        say("Quarantined:")
        say("\n".join(reason_lines(decided.quarantined_by_reason, first_messages(run))))


def _closing(decided: Any, out: str) -> str:
    kept = ", ".join(f"{out.rstrip('/')}/{name}" for name in decided.outputs)
    duplicates = f"{decided.num_duplicates} duplicates, " if decided.num_duplicates else ""
    return (
        f"{decided.num_in} rows in: {decided.num_kept} kept, {decided.num_pruned} pruned, "
        f"{duplicates}{decided.num_quarantined} quarantined. Kept rows: {kept}"
    )
