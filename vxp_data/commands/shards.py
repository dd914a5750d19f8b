"""`sample`, `shard`, `export`: what is made of a pruned run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vxp_data.commands.options import Address, EngineName, Run, Set, Share, read_overrides, say
from vxp_data.errors import StoppedError

if TYPE_CHECKING:
    from vxp_data.pipeline.shard.command import ShardResult


def sample(
    run: Run,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Epochs to plan. [the run's shard.num_epochs]")
    ] = None,
    settings: Set = None,
) -> None:
    """Plan which frames training sees of each kept row, at variable rates. Touches no video.

    Writes plans.parquet and sampling.png into RUN; `shard` plans by the same settings.

    Example: vxp-data sample runs/a --set sampling.max_frames=240 --epochs 2
    """
    from vxp_data.pipeline.shard.sample import sample_run
    from vxp_data.report.sampling import sampling_figure, sampling_table

    overrides = read_overrides(settings, epochs=epochs)
    written, sampled = sample_run(run, overrides, sampling_figure)
    if len(sampled.counts.duration_s_R):
        say(sampling_table(sampled.counts))
    without = f" {sampled.num_text_rows} rows are text only." if sampled.num_text_rows else ""
    say(
        f"{sampled.num_rows} rows x {sampled.num_epochs} epochs planned: {sampled.num_frames} "
        f"frames.{without} Plans: {run}/{written.plans.name}, figure: "
        f"{run}/{written.sampling_figure.name}"
    )


def shard(
    run: Run,
    out: Annotated[str, typer.Option("--out", help="Folder for the shards, or s3://BUCKET/...")],
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload",
            help="'video' (the files' bytes), 'frames' (the planned frames as images) or 'none'.",
        ),
    ] = None,
    shard_bytes: Annotated[
        str | None, typer.Option("--shard-bytes", help="What a shard should hold: 500M, 1Gi.")
    ] = None,
    max_samples: Annotated[
        int | None, typer.Option("--max-samples", help="Most clips in a shard.")
    ] = None,
    world_size: Annotated[
        int | None,
        typer.Option("--world-size", help="Training processes; divides the number of shards."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Loader workers of each training process.")
    ] = None,
    address: Address = None,
    engine: EngineName = None,
    share: Share = None,
    settings: Set = None,
) -> None:
    """Write a run's kept rows as WebDataset shards, with their sampling plans.

    Example: vxp-data shard runs/a --out shards/a --payload frames --world-size 8 --workers 4
    """
    from vxp_data.commands.progress import ShardProgress
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.pipeline.shard.command import shard_run
    from vxp_data.settings.prune import load_config
    from vxp_data.settings.words import num_bytes
    from vxp_data.storage.folder import open_folder

    overrides = read_overrides(
        settings,
        payload=payload,
        shard_bytes=num_bytes(shard_bytes, f"--shard-bytes {shard_bytes}"),
        max_samples=max_samples,
        world_size=world_size,
        workers=workers,
        address=address,
        engine=engine,
        share=share,
    )
    directory = open_run(run)
    record = directory.read_run()
    config = load_config(None, overrides, run_settings=record["config"]).config
    try:
        result = shard_run(directory, record, config, open_folder(out), ShardProgress())
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped. Whole shards are kept: the same command goes on from there."
        ) from None
    _show_shards(result, out)


def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    layout: Annotated[
        str,
        typer.Option("--format", help="'llava' (JSON), 'ms-swift' (JSONL) or 'parquet' (plans)."),
    ] = "llava",
    settings: Set = None,
) -> None:
    """Write a run's kept rows for another trainer, whatever layout they came in.

    Example: vxp-data export runs/a --format ms-swift --out train.jsonl
    """
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.pipeline.shard.export import export_rows
    from vxp_data.settings.prune import load_config

    directory = open_run(run)
    record = directory.read_run()
    config = load_config(None, read_overrides(settings), run_settings=record["config"]).config
    done = export_rows(directory, record, config, layout, out)
    if done.left_out:
        say("Left out: " + ", ".join(f"{num} {what}" for what, num in done.left_out.items()) + ".")
    if done.num_marked:
        say(
            f"{done.num_marked} rows have the words <video> or <image> where no video or image is: "
            "a trainer that takes every one for a medium will miss some."
        )
    say(f"{done.num_rows} rows in {out}.")


def _show_shards(result: ShardResult, out: str) -> None:
    from vxp_data.report.terminal import reason_lines, shard_table

    say(shard_table(result.index.shards))
    if result.index.quarantined_by_reason:
        say("Quarantined:")
        say("\n".join(reason_lines(result.index.quarantined_by_reason)))
    for note in _notes(result):
        say(note)
    num_quarantined = result.index.quarantine.num_rows
    say(
        f"{result.num_kept_rows} kept rows: {result.index.samples.num_rows} in "
        f"{len(result.index.shards)} shards, {num_quarantined} quarantined, in "
        f"{result.wall_s:.1f} s ({result.num_found} shards were there). Index: {out}/index.json"
    )


def _notes(result: ShardResult) -> Iterator[str]:
    """Return what a user would not expect."""
    if result.num_inexact:
        yield (
            f"{result.num_inexact} images stand in for frames that could not be decoded: each "
            "shows the nearest earlier one."
        )
    if result.repeated_bytes:
        yield (
            f"{result.repeated_bytes / 1e6:.1f} MB are whole videos of which several parts are "
            "samples, once more for each part; --payload frames carries the parts' frames alone."
        )
    numbers = Counter(shard.kind for shard in result.index.shards)
    for kind, number in sorted(numbers.items()):
        if number % result.divisor:
            yield (
                f"{number} {kind} shards do not divide by {result.divisor}: there are too few "
                "clips. Our loader does not mind; others leave ranks or workers idle."
            )
