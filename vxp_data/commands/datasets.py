"""`ingest` and `mixture`: public datasets and the mixtures made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vxp_data.commands.options import say

if TYPE_CHECKING:
    from vxp_data.core.dataset_rows import DatasetRows
    from vxp_data.datasets.ingest import FileResult, IngestResult
    from vxp_data.manifests.mixture import MixtureEntry


def ingest(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="A name in manifests/datasets, or such a YAML file of yours."
        ),
    ],
    root: Annotated[
        str, typer.Option("--root", help="Folder or prefix with its annotation files and media.")
    ],
    out: Annotated[str, typer.Option("--out", help="Manifest to write, .jsonl.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="One of its annotation files. [all there are]"),
    ] = None,
    extract_media: Annotated[
        bool,
        typer.Option(
            "--extract-media", help="Write media that stand inside annotation files below ROOT."
        ),
    ] = False,
) -> None:
    """Turn a public dataset's annotation files into a manifest that `prune` reads.

    Prints rows against what the source states, and writes lists of missing media and broken rows.

    Example: vxp-data ingest next-qa --root data/next-qa --out data/next-qa.jsonl
    """
    from vxp_data.datasets.ingest import ingest_dataset

    result = ingest_dataset(
        dataset,
        root=root,
        out=out,
        only=only or (),
        extract_media=extract_media,
        progressed=lambda num_rows: say(f"{num_rows} rows read", err=True),
    )
    _show(result)


def _show(result: IngestResult) -> None:
    from vxp_data.report.terminal import aligned

    say(aligned([_HEAD, *(_cells(file) for file in result.files)]))
    for file in result.files:
        for why, number in file.skipped.items():
            say(f"{number:>8}  rows of {file.name} are not for training: {why}")
    for name in result.absent:
        say(f"{'-':>8}  {name}: not there, and not required")
    for task, number in result.rows_by_task.items():
        say(f"{number:>8}  {task}")
    if result.num_extracted:
        say(f"{result.num_extracted:>8}  media written out of annotation files")
    if result.num_rejected:
        say(f"{result.num_rejected:>8}  broken rows: {result.rejected}")
    say(f"{result.num_missing:>8}  of {result.num_media} media are missing: {result.missing}")
    say(
        f"{result.num_rows} rows: {result.manifest}. Next: vxp-data prune {result.manifest} "
        f"--media-root {result.media_root} --set tasks.field=task --out RUN"
    )


_HEAD = ("file", "rows", "expected", "written", "skipped", "broken")


def _cells(file: FileResult) -> tuple[str, ...]:
    expected = "not stated" if file.expected is None else str(file.expected)
    if file.expected not in (None, file.num_read):
        expected += f" ({file.num_read - (file.expected or 0):+d})"
    skipped = sum(file.skipped.values())
    numbers = (file.num_written, skipped, file.num_rejected)
    return (file.name, str(file.num_read), expected, *map(str, numbers))


mixture = typer.Typer(
    help="Mixtures of datasets: YAML files that `prune` reads.", no_args_is_help=True
)


@mixture.command()
def show(
    file: Annotated[
        Path,
        typer.Argument(metavar="MIXTURE", help="A name in manifests/mixtures, or a YAML file."),
    ],
    root: Annotated[
        str | None,
        typer.Option(
            "--root", help="Where its paths count from. [the file's folder; for a name, here]"
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="A finished prune of it: also how many rows it found, and keeps."
        ),
    ] = None,
) -> None:
    """Print the datasets of a mixture, their weights and rows, and what of them is there.

    Example: vxp-data mixture show video_xl_pro_sft --root data
    """
    from vxp_data.datasets.present import present_entries
    from vxp_data.report.terminal import aligned

    found = present_entries(file, root)
    counts = {} if run is None else _rows_of_run(run)
    of_run = () if run is None else ("found", "kept", "share kept")
    rows: list[tuple[str, ...]] = [
        ("dataset", "share", "rows meant", "rows there", "media missing", *of_run)
    ]
    num_kept = sum(count.kept for count in counts.values())
    for present in found:
        name = present.entry.dataset.name
        numbers = [present.entry.rows, present.num_rows, present.num_missing]
        if run is not None:
            own = counts.pop(name, None)
            numbers += [None, None] if own is None else [own.found, own.kept]
        cells = ["-" if number is None else f"{number:,}" for number in numbers]
        if run is not None:
            cells.append("-" if own is None or not num_kept else f"{own.kept / num_kept:.2%}")
        rows.append((name, f"{present.share:.2%}", *cells))
    say(aligned(rows))
    for name, count in counts.items():
        say(f"not in the mixture: {name}, of which the run keeps {count.kept:,} rows")
    lacking = [present for present in found if present.num_rows is None]
    for present in lacking:
        say(_how_to_make(present.entry))
    say(f"{len(found) - len(lacking)} of {len(found)} manifests are there.")


def _rows_of_run(run: str) -> dict[str, DatasetRows]:
    """Return what a finished run counted of each dataset.

    Raises:
        UserError: there is none, or it is of before they were counted.
    """
    from vxp_data.errors import UserError
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.pipeline.run_record import decided_from_record

    counts = decided_from_record(open_run(run).read_run()["decided"]).datasets
    if not counts:
        raise UserError(
            f"--run {run}: was decided by a version that did not count the rows of each dataset. "
            f"vxp-data decide {run} counts them; it touches no video."
        )
    return {count.dataset: count for count in counts}


def _how_to_make(entry: MixtureEntry) -> str:
    dataset = entry.dataset
    if not entry.source:
        return f"not there: {dataset.manifest}"
    only = "".join(f" --only {name}" for name in entry.only)
    return (
        f"not there: vxp-data ingest {entry.source} --root {dataset.media_root}{only} "
        f"--out {dataset.manifest}"
    )
