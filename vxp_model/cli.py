"""The `vxp-model` command. Heavy imports stand inside the commands: `--help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vxp_data.extras import INFERENCE, require_extra
from vxp_data.option_groups import with_option_groups
from vxp_model import cli_check, cli_eval, cli_generate, cli_needle, cli_released

if TYPE_CHECKING:
    from vxp_data.settings.file import Loaded
    from vxp_model.settings.recot import ReCoTRecipe

app = typer.Typer(
    name="vxp-model",
    help="Train on shards that vxp-data writes; answer questions about long videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Recipe = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE", help="A YAML file, or a name: video_xl_pro/recot (pipelines/)."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. batch.micro_samples=2."),
]


def _print_version(asked: bool) -> None:
    if asked:
        from vxp_model import __version__

        typer.echo(f"vxp-model {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    local_rank: Annotated[
        int | None, typer.Option("--local_rank", hidden=True, help="Given by `deepspeed`.")
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and end."
        ),
    ] = False,
) -> None:
    del local_rank, version  # the launcher sets LOCAL_RANK as well; the callback has printed


def recot(recipe: Recipe, settings: Set = None) -> None:
    """Train the token compressor by reconstruction. Reads shards, writes the recipe's run.out.

    The same command goes on after a stop or a crash. On several GPUs, start it with torchrun or
    deepspeed.

    Examples: vxp-model recot video_xl_pro/recot --set run.out=runs/recot

    torchrun --nproc-per-node 8 -m vxp_model recot video_xl_pro/recot
    """
    require_extra("train", "`vxp-model recot`")
    loaded = _load(recipe, settings)
    from vxp_model.train.distributed import join_distributed
    from vxp_model.train.recot.run import train_recot

    with join_distributed(loaded.config.engine.device) as context:
        result = train_recot(loaded, context, lambda line: typer.echo(line, err=True))
        if not context.is_first:
            return
    what = "Nothing left to do" if result.was_done else "Trained"
    typer.echo(
        f"{what}: {result.steps} steps, reconstruction loss {result.final_loss:.6g}; "
        f"model in {result.model}, log in {result.out}/log.jsonl"
    )


def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or a name: video_xl_pro/sft (pipelines/)."
        ),
    ],
    stage: Annotated[
        str | None, typer.Option("--stage", help="align or sft, instead of the recipe's.")
    ] = None,
    settings: Set = None,
) -> None:
    """Train Video-XL-Pro: the projector (align), or everything (sft). Writes the recipe's run.out.

    The same command goes on after a stop or a crash. On several GPUs, start it with torchrun or
    deepspeed.

    Example: vxp-model train video_xl_pro/sft --set start.model=runs/align/model
    """
    require_extra("train", "`vxp-model train`")
    from vxp_data.settings.file import read_recipe
    from vxp_model.settings.mllm import MLLM_RECIPES, as_override

    overrides = [MLLM_RECIPES.parse_set(text) for text in settings or ()] + as_override(stage)
    loaded = MLLM_RECIPES.read(read_recipe(recipe), str(recipe), overrides)
    from vxp_model.train.distributed import join_distributed
    from vxp_model.train.mllm.run import train_mllm

    with join_distributed(loaded.config.engine.device) as context:
        result = train_mllm(loaded, context, lambda line: typer.echo(line, err=True))
        if not context.is_first:
            return
    what = "Nothing left to do" if result.was_done else "Trained"
    typer.echo(
        f"{what}: {result.steps} steps, loss {result.final_loss:.6g}; model in {result.model}, "
        f"log in {result.out}/log.jsonl"
    )


def estimate(
    recipe: Recipe,
    settings: Set = None,
    gpu: Annotated[
        str, typer.Option("--gpu", help="a100, h100, h200, l40s or rtx4090; for the hours.")
    ] = "a100",
    utilisation: Annotated[
        float, typer.Option("--utilisation", help="Of the GPU's bf16 peak, 0 to 1.")
    ] = 0.4,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Processes that train.")] = 1,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help="Samples of an epoch, for want of shards."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=1,
            help="Of every sample, to align or fine-tune: else 360. Of every video, to evaluate: "
            "else as many as the recipe allows.",
        ),
    ] = None,
    answers: Annotated[
        int,
        typer.Option(
            "--answers", min=1, help="Of every sample: with data.turns=split, a sequence each."
        ),
    ] = 1,
    preset: Annotated[
        str, typer.Option("--preset", help="3b, 7b or tiny: the model that is evaluated.")
    ] = "3b",
) -> None:
    """Print what a training or an evaluation will take: GPU hours, memory. Starts nothing.

    Examples: vxp-model estimate video_xl_pro/recot --gpus 8 --samples 1000000

    vxp-model estimate video_xl_pro/sft --gpus 8 --frames 360

    vxp-model estimate video_xl_pro/eval
    """
    from vxp_data.settings.file import read_recipe

    tree = read_recipe(recipe)
    if "benchmarks" in tree:
        from vxp_model.eval.estimate import describe_eval, estimate_eval
        from vxp_model.models.video_xl_pro_shape import preset_shape

        asked = cli_eval.load_eval(str(recipe), settings or []).config
        costs = estimate_eval(asked, preset_shape(preset), num_frames=frames)
        typer.echo(describe_eval(costs, gpu=gpu, utilisation=utilisation))
        return
    if "stage" in tree:
        from vxp_model.settings.mllm import MLLM_RECIPES
        from vxp_model.train.mllm.estimate import SampleShape, describe_mllm, estimate_mllm

        overrides = [MLLM_RECIPES.parse_set(text) for text in settings or ()]
        training = MLLM_RECIPES.read(tree, str(recipe), overrides).config
        shape = SampleShape(num_frames=frames or 360, num_answers=answers)
        found = estimate_mllm(training, shape, num_gpus=gpus)
        typer.echo(
            describe_mllm(
                found, shape, gpu=gpu, utilisation=utilisation, num_gpus=gpus, num_samples=samples
            )
        )
        typer.echo(f"\n{cli_check.datasets(training)}")
        return
    loaded = _load(recipe, settings)
    from vxp_model.train.recot.estimate import describe, estimate_recot

    result = estimate_recot(
        loaded.config, gpu=gpu, utilisation=utilisation, num_gpus=gpus, num_samples=samples
    )
    typer.echo(describe(result))
    typer.echo(f"\n{cli_check.datasets(loaded.config)}")


def probe(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A YAML file, or a name: probe (pipelines/).")
    ],
    settings: Set = None,
) -> None:
    """Classify media by frozen tokens: SigLIP's, and each compressor's. Writes out/probe.json.

    Example: vxp-model probe probe --set data.train=hmdb51 --set out=runs/hmdb51
    """
    require_extra("train", "`vxp-model probe`", INFERENCE)
    from vxp_data.settings.file import read_recipe
    from vxp_model.settings.probe import PROBE_RECIPES

    overrides = [PROBE_RECIPES.parse_set(text) for text in settings or ()]
    loaded = PROBE_RECIPES.read(read_recipe(recipe), str(recipe), overrides)
    from vxp_model.eval.probe import describe, run_probe

    result = run_probe(loaded.config, lambda line: typer.echo(line, err=True))
    typer.echo(describe(result))


def show_config(recipe: Recipe, settings: Set = None) -> None:
    """Print every setting of a recipe, its value and where the value comes from."""
    from vxp_data.settings.recipe_kinds import load_any_recipe, setting_lines

    for line in setting_lines(load_any_recipe(recipe, settings or ())):
        typer.echo(line)


_PANELS: Final[dict[str, tuple[Callable[..., None], ...]]] = {
    "Train": (recot, train),
    "Use": (cli_generate.generate, cli_generate.chat, cli_released.import_released),
    "Before you pay": (cli_check.check, estimate, cli_generate.frames, show_config),
    "Measure": (
        cli_eval.evaluate,
        cli_eval.score,
        cli_eval.compare,
        cli_eval.report,
        cli_eval.export,
        cli_eval.benchmarks,
        cli_needle.needle,
        probe,
    ),
}
_NAMES: Final = {"evaluate": "eval"}
"""Of commands that Python has a word for."""
for panel, commands in _PANELS.items():
    for command in commands:
        name = _NAMES.get(command.__name__)
        app.command(name, rich_help_panel=panel)(with_option_groups(command))


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user can fix it, 130 stopped and saved."""
    from vxp_data.errors import VxpError
    from vxp_model.errors import StoppedError, UserError

    if not sys.stderr.isatty():  # progress bars of transformers and the hub, in a log file
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except (UserError, StoppedError, VxpError) as error:
        rank = os.environ.get("RANK", "")
        who = f"process {rank}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
        typer.echo(f"error: {who}{error}", err=True)
        sys.exit(error.exit_code)


def _load(recipe: Path, settings: list[str] | None) -> Loaded[ReCoTRecipe]:
    from vxp_model.settings.recot import RECIPES, load_recipe

    overrides: list[tuple[str, str, Any]] = [RECIPES.parse_set(text) for text in settings or ()]
    return load_recipe(recipe, overrides)
