"""Options that say how much to keep, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from vxp_data.commands.options import read_overrides
from vxp_data.errors import UserError

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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOptions:
    """What `prune`, `decide` and `plan` are told about how much to keep."""

    threshold: Threshold = None
    keep: Keep = None
    budget: BudgetOption = None
    weight: Weight = None
    tokens_per_gpu_hour: TokensPerGpuHour = None
    measure: Measure = None

    def overrides(self) -> list[tuple[str, Any, str]]:
        """Return the settings that these options stand for: (key, value, origin).

        Raises:
            UserError: an option's value cannot be read, or two are for the same task.
        """
        rate = gpu_hour_rate(self.tokens_per_gpu_hour)
        overrides = read_overrides(
            None,
            measure=("measure", self.measure),
            tokens_per_gpu_hour=("costs.tokens_per_gpu_hour", rate),
        )
        for task, (text, origin) in self._thresholds().items():
            overrides.append((f"thresholds.{task}", text, origin))
        for task, weight in read_weights(self.weight).items():
            overrides.append((f"budget_weights.{task}", weight, "--weight"))
        return overrides

    def changes(self) -> dict[str, Any]:
        """Return what `redecide` and `changed_config` take to change a finished run.

        Raises:
            UserError: see `overrides`; or the measure is unknown.
        """
        from vxp_data.registry import MEASURES
        from vxp_data.settings.prune import threshold_spec

        if self.measure is not None:
            MEASURES.require(self.measure)
        specs = {task: threshold_spec(text) for task, (text, _) in self._thresholds().items()}
        return {
            "measure": self.measure,
            "default": specs.pop("default", None),
            "thresholds": specs,
            "weights": read_weights(self.weight) or None,
            "tokens_per_gpu_hour": gpu_hour_rate(self.tokens_per_gpu_hour),
        }

    def _thresholds(self) -> dict[str, tuple[str, str]]:
        """Return, by task, the threshold as recipes have it, and the option that gave it."""
        from vxp_data.settings.prune import threshold_spec

        found: dict[str, tuple[str, str]] = {}
        for option, prefix, given in (
            ("--threshold", "", self.threshold),
            ("--keep", "keep ", self.keep),
            ("--budget", "budget ", self.budget),
        ):
            for text in given or ():
                task, equals, value = text.rpartition("=")
                if option == "--budget":  # its value has an equals sign of its own
                    task, equals, unit = task.rpartition("=")
                    value = f"{unit}={value}"
                name = task if equals else "default"
                if name in found:
                    raise UserError(
                        f"{option} {text}: {name!r} has {found[name][1]} already; give one "
                        "threshold for each task."
                    )
                try:
                    threshold_spec(prefix + value)
                except UserError as error:
                    raise UserError(f"{option} {text}: {error}") from error
                found[name] = (prefix + value, f"{option} {text}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludeOptions:
    """What `prune` and `decide` are told about the same video twice, and about evaluation sets."""

    duplicates: Duplicates = None
    exclude: Exclude = None

    def overrides(self) -> list[tuple[str, Any, str]]:
        """Return the settings that these options stand for: (key, value, origin)."""
        return read_overrides(
            None,
            duplicates=("duplicates.mode", self.duplicates),
            exclude=("duplicates.exclude", self.exclude or None),
        )


def read_weights(weights: list[str] | None) -> dict[str, float]:
    """Read --weight TASK=W.

    Raises:
        UserError: it is none, or a task has two.
    """
    read: dict[str, float] = {}
    for text in weights or ():
        task, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not task or not weight > 0 or task in read:
            raise UserError(
                f"--weight {text}: wanted a task, once, and a number above 0, such as caption=2."
            )
        read[task] = weight
    return read


def gpu_hour_rate(text: str | None) -> float | None:
    """Read --tokens-per-gpu-hour: a number, or a run record that has it among its figures.

    Raises:
        UserError: it is neither.
    """
    import json

    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        record = json.loads(Path(text).read_text(encoding="utf-8"))
        return float(record["figures"]["tokens_per_gpu_hour"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--tokens-per-gpu-hour {text}: wanted a number, or a JSON record with "
            f"figures.tokens_per_gpu_hour ({type(error).__name__}: {error})."
        ) from error
