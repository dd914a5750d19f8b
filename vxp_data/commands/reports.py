"""`plan`, `compare`, `report`, `score-template`: see what a decision does, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vxp_data.commands.options import Run, Set, read_overrides, say
from vxp_data.commands.targets import KeepOptions, ScoreOptions

if TYPE_CHECKING:
    from vxp_data.core.keep_curve import RunPlan

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]


def plan(
    run: Run,
    *,
    keep: KeepOptions,
    scores: ScoreOptions,
    points: Annotated[
        int, typer.Option("--points", min=1, max=10_000, help="Points of a curve.")
    ] = 100,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all points there.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Draw the curves there.")] = None,
    as_json: Json = False,
    settings: Set = None,
) -> None:
    """Show what thresholds would keep, and cost, before anything is decided. Changes nothing.

    Example: vxp-data plan runs/a --budget gpu_hours=40 --tokens-per-gpu-hour 2.5e6
    """
    import json

    from vxp_data.pipeline.inspect.plan import plan_choice
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.report.keep_curves import curve_csv, curve_figure, curve_table
    from vxp_data.report.plan_tables import asked_table, bought_table, plan_json

    planned = plan_choice(
        open_run(run),
        **keep.changes(),
        overrides=read_overrides(settings),
        num_points=points,
        scores=scores.file(),
    )
    for path, content in ((csv, curve_csv), (png, curve_figure)):
        if path is not None:
            write_file(path, content(planned))
    if as_json:
        typer.echo(json.dumps(plan_json(planned), indent=1, allow_nan=False))
        return
    from vxp_data.report.terminal import rows_table

    of_datasets = rows_table(planned.datasets)
    tables = (curve_table(planned), of_datasets, bought_table(planned), asked_table(planned))
    say("\n\n".join(filter(None, tables)))
    say(_plan_notes(planned))


def score_template(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="A .jsonl, .csv or .parquet to write.")],
) -> None:
    """Write the rows that a score decides about, with an empty column `score`. Changes nothing.

    Whoever fills it gives it back with `vxp-data decide RUN --scores FILE`; larger = keep.

    Example: vxp-data score-template runs/a --out rows.jsonl
    """
    from vxp_data.pipeline.inspect.score_template import score_template as make
    from vxp_data.pipeline.run_dir.directory import open_run

    content, number = make(open_run(run), out.suffix.lower())
    write_file(out, content)
    say(
        f"{out}: {number} rows. Fill `score` (larger = keep), then: "
        f"vxp-data decide {run} --scores {out}"
    )


def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Directory of a finished prune.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another one of the same rows.")],
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=1000, help="Examples of each change.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Show what changed between two decisions, by subset and reason. Changes nothing.

    Example: vxp-data compare runs/a runs/b --examples 5
    """
    import dataclasses
    import json

    from vxp_data.pipeline.inspect.compare import compare_runs
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.report.compared import compared_text

    compared = compare_runs(open_run(run_a), open_run(run_b), num_examples=examples)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(compared), indent=1, allow_nan=False))
    else:
        say(compared_text(compared))


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it there. [report.html in RUN]")
    ] = None,
) -> None:
    """Write one page about a finished run: counts, curves, frames on either side of the threshold.

    The page needs no server, no network and no script. Reads no video.

    Example: vxp-data report runs/a
    """
    from vxp_data.pipeline.inspect.report import report_run
    from vxp_data.pipeline.run_dir.directory import open_run
    from vxp_data.report.page import render_report

    directory = open_run(run)
    gathered = report_run(directory, run.rstrip("/").rpartition("/")[2] or run)
    page = render_report(gathered)
    if out is None:
        directory.root.write_text(directory.report.name, page)
    else:
        write_file(out, page)
    images = "" if gathered.has_sheets else " It has no images: the run kept no thumbnails."
    say(f"{out or directory.report}: {len(page.encode()) / 1e6:.1f} MB.{images}")


def _plan_notes(planned: RunPlan) -> str:
    from vxp_data.core.per_cost import per_cost_unit

    notes = [
        f"Of {planned.num_rows} rows {planned.num_out} are out whatever the threshold.",
        "'all' keeps the same share of each subset; videos, hours and bytes count a file\nonce.",
        "Frames and tokens are an epoch's, by the run's sampling rule.",
    ]
    if any(dataset.wanted is not None for dataset in planned.datasets):
        notes.append(
            "Shares are cut by thresholds alone; 'now', 'knee' and 'chosen' also by the rows of\n"
            "each dataset."
        )
    if unit := per_cost_unit(planned.measure):
        notes.append(f"Scores are {unit}.")
    if planned.bought:
        notes.append(
            "Quality: over kept rows, the sum of the share of its subset that each is at or\n"
            "ahead of. --per cost takes first what has most of it for a token."
        )
    if planned.asked:
        notes.append(
            "Asked, in: by all rows but quarantined ones. Shares are of questions, told by\n"
            "English words."
        )
    if not planned.asked_of_all:
        notes.append("What is asked was read of some rows of each subset, spread evenly.")
    if "gpu_hours" not in planned.units:
        notes.append("GPU hours: give --tokens-per-gpu-hour, a number or a training run's record.")
    return "\n".join(notes)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file that the user has named.

    Raises:
        UserError: it cannot be written.
    """
    from vxp_data.storage.local import cannot_write

    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise cannot_write(str(path), error) from error
