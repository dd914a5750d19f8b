"""Options that say how much to keep, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vxp_data.errors import UserError

if TYPE_CHECKING:
    from vxp_data.core.budgets import Target

Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="[TASK=]T",
        help="Keep what scores T or less: caption=0.80; q0.5 is a quantile of the scores, knee "
        "where they begin to climb or to level off.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="[TASK=]K",
        help="Keep the least redundant: 0.5 a share of the rows, caption=1000 a number of rows.",
    ),
]
Measure = Annotated[
    str | None, typer.Option("--measure", help="Similarity measure, e.g. effective_frames.")
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="[TASK=]UNIT=N",
        help="Keep the least redundant that N pays for, over all subsets: gpu_hours=40, frames=2M, "
        "tokens=1B, bytes=500G, videos=100000, hours=20, rows=50k.",
    ),
]
Weight = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="TASK=W",
        help="In a budget over all subsets: caption=2 keeps twice the share of captions.",
    ),
]
Duplicates = Annotated[
    str | None,
    typer.Option(
        "--duplicates",
        metavar="MODE",
        help="The same video twice: report, drop its rows, or relink them to the one kept. [off]",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="FILE|RUN",
        help="Take out what is in evaluation sets: a list of ids, or a run over their videos.",
    ),
]
TokensPerGpuHour = Annotated[
    str | None,
    typer.Option(
        "--tokens-per-gpu-hour",
        metavar="N|FILE",
        help="Visual tokens that a GPU trains on in an hour, or the JSON record of a run with it.",
    ),
]


def threshold_texts(
    threshold: list[str] | None, keep: list[str] | None, budget: list[str] | None
) -> dict[str, str]:
    """Read --threshold, --keep and --budget into texts by task, 'default' for all others."""
    texts: dict[str, str] = {}
    for option, prefix, given in (
        ("--threshold", "", threshold),
        ("--keep", "keep ", keep),
        ("--budget", "budget ", budget),
    ):
        for text in given or ():
            task, equals, value = text.rpartition("=")
            if option == "--budget":  # its value has an equals sign of its own
                task, equals, unit = task.rpartition("=")
                value = f"{unit}={value}"
            name = task if equals else "default"
            if name in texts:
                raise UserError(
                    f"{option} {text}: {name!r} has {texts[name]!r} already; give one threshold "
                    "for each task."
                )
            texts[name] = prefix + value
    return texts


def targets(
    threshold: list[str] | None, keep: list[str] | None, budget: list[str] | None
) -> tuple[dict[str, Target], Target | None]:
    """Read --threshold, --keep and --budget: by task, and for all other tasks if that is given."""
    from vxp_data.settings.prune import threshold_spec

    texts = threshold_texts(threshold, keep, budget)
    specs = {task: threshold_spec(text) for task, text in texts.items()}
    default = specs.pop("default", None)
    return specs, default


def read_weights(weights: list[str] | None) -> dict[str, float]:
    """Read --weight TASK=W.

    Raises:
        UserError: it is none, or a task has two.
    """
    from vxp_data.settings import words

    split = (text.rpartition("=") for text in weights or ())
    return words.read_weights((task, w, f"--weight {task}{eq}{w}") for task, eq, w in split)


def gpu_hour_rate(text: str | None) -> float | None:
    """Read --tokens-per-gpu-hour: a number, or a run record that has it among its figures.

    Raises:
        UserError: it is neither.
    """
    from vxp_data.settings import words

    return words.gpu_hour_rate(text, f"--tokens-per-gpu-hour {text}")
