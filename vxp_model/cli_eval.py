"""Commands that measure a model on benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.extras import INFERENCE, require_extra

if TYPE_CHECKING:
    from vxp_data.settings.file import Loaded
    from vxp_model.settings.eval import EvalRecipe

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of `vxp-model eval`.")]
Compat = Annotated[
    str | None,
    typer.Option(
        "--compat",
        help="Read and count replies as another publisher does: official, lmms-eval or vlmevalkit; "
        "else ours.",
    ),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="URL#MODEL|FOLDER",
        help="Judge of free texts: an OpenAI-compatible URL such as http://host/v1#name, or the "
        "folder of a language model. Judgments are kept and asked once.",
    ),
]
JudgeKey = Annotated[
    str | None,
    typer.Option(
        "--judge-key",
        metavar="VARIABLE",
        help="Name of the environment variable that holds the judge's API key.",
    ),
]
Only = Annotated[
    str | None, typer.Option("--benchmark", help="This one alone; else all of the run.")
]


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL",
            help="A YAML file or a name (video_xl_pro/eval); or a model: a folder, "
            "transformers:FOLDER, answers:FILE.",
        ),
    ],
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="One of `vxp-model benchmarks`.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Folder with that benchmark's files.")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", help="Run directory.")] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Frames and prompts: paper, video_xl, video_xl_2, lmms_eval"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The first so many questions alone.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="i/N", help="Answer the i-th of N parts, i from 0."),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option("--score", help="generation, or likelihood of the options."),
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Files may hold other numbers than were published."),
    ] = False,
    compat: Compat = None,
    judge: JudgeOption = None,
    judge_key: JudgeKey = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="e.g. answer.keep_ratio=0.5."),
    ] = None,
) -> None:
    """Ask a model the questions of benchmarks, and score. Reads local files, writes the run.

    Killed or stopped, the same command goes on. Under torchrun, processes share the videos.

    Examples: vxp-model eval runs/sft/model --benchmark mlvu --data data/MLVU --out runs/mlvu

    vxp-model eval video_xl_pro/eval --set model=runs/sft/model
    """
    from vxp_model.eval.evaluate import run_recipe
    from vxp_model.eval.recipe import read_eval
    from vxp_model.eval.split import Part

    loaded = read_eval(
        what,
        settings or [],
        benchmark=benchmark,
        data=data,
        told={
            "out": out,
            "preset": preset,
            "limit": limit,
            "answer.by": score,
            "allow_partial": allow_partial or None,
        },
    )
    if not loaded.config.model.startswith("answers:"):
        require_extra("train", "`vxp-model eval`", INFERENCE)
    told = {"compat": compat, "judge": judge, "judge_key": judge_key}
    run_recipe(loaded, Part.of(shard), _say, typer.echo, told)


def score(
    run: Run,
    benchmark: Only = None,
    compat: Compat = None,
    judge: JudgeOption = None,
    judge_key: JudgeKey = None,
    training_run: Annotated[
        Path | None,
        typer.Option("--training-run", help="Run of `vxp-data prune` to look for overlap in."),
    ] = None,
) -> None:
    """Score a run's answers again, in seconds, without a model. Writes scores.json.

    Examples: vxp-model score runs/mlvu --compat lmms-eval

    vxp-model score runs/mlvu --training-run runs/first
    """
    from vxp_model.eval.score_run import score_run

    for text in score_run(
        run,
        _say,
        only=None if benchmark is None else [benchmark],
        compat=compat,
        judge=judge,
        judge_key=judge_key,
        training_run=training_run,
    ):
        typer.echo(text)


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="A", help="Run directory.")],
    run_b: Annotated[Path, typer.Argument(metavar="B", help="Another over the same questions.")],
    benchmark: Only = None,
    across_plans: Annotated[
        bool,
        typer.Option("--across-plans", help="Also where the models were shown other frames."),
    ] = False,
    compat: Compat = None,
) -> None:
    """Test whether two runs differ on the same questions: McNemar, and a bootstrap over videos.

    Example: vxp-model compare runs/mlvu-full runs/mlvu-half
    """
    from vxp_model.eval.compare import compare as compare_runs
    from vxp_model.eval.compare import describe

    for one in compare_runs(
        run_a, run_b, benchmark=benchmark, across_plans=across_plans, compat=compat
    ):
        typer.echo(describe(one))


def report(
    run: Run,
    against: Annotated[
        Path | None, typer.Option("--against", help="A second run: answers that differ are shown.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; else RUN/report.html.")
    ] = None,
) -> None:
    """Write one HTML page: scores with intervals, and answers with the frames that were seen."""
    from vxp_model.eval.report import write_report

    path = write_report(run, out=out, against=against)
    typer.echo(f"report in {path}")


def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    form: Annotated[
        str, typer.Option("--form", help="lmms-eval, or submission (what a test server takes).")
    ] = "lmms-eval",
    benchmark: Only = None,
) -> None:
    """Write a run's answers in another publisher's layout.

    Example: vxp-model export runs/mlvu --out submission --form submission --benchmark mlvu_test
    """
    from vxp_model.eval.export import export_run

    for path in export_run(run, out, form=form, benchmark=benchmark, say=_say):
        typer.echo(f"wrote {path}")


def benchmarks(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them, in detail.")
    ] = None,
    media: Annotated[
        str | None,
        typer.Option("--media", metavar="NAME", help="List the media of this one; needs --data."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with that benchmark's files.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the list there; with .jsonl, a manifest for prune."),
    ] = None,
) -> None:
    """List the benchmarks: what each needs on the disk, its licence, its counts.

    `--media` writes the names of a benchmark's media, for `vxp-data prune --exclude`.

    Examples: vxp-model benchmarks mlvu

    vxp-model benchmarks --media mlvu --data data/MLVU --out mlvu-media.txt
    """
    from vxp_model.eval.catalogue import describe_all, describe_one, write_media

    if media is not None:
        typer.echo(write_media(media, data, out))
    elif name is not None:
        typer.echo(describe_one(name))
    else:
        typer.echo(describe_all())


def _say(line: str) -> None:
    typer.echo(line, err=True)


def load_eval(what: str, settings: list[str]) -> Loaded[EvalRecipe]:
    """Return the settings of an evaluation, for commands that only look at them."""
    from vxp_model.eval.recipe import read_eval

    nothing: dict[str, Any] = {}
    return read_eval(what, settings, benchmark=None, data=None, told=nothing)
