"""Options that say how much to keep, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.commands.options import read_overrides

if TYPE_CHECKING:
    from vxp_data.core.per_cost import Per
    from vxp_data.pipeline.curate.outside_scores import ScoreFile
    from vxp_data.settings.words import TargetText

Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="[TASK=]T",
        help="Keep what scores T or less (of effective_frames and of --scores: T or more): "
        "caption=0.80; q0.5 is a quantile of the scores, knee where they begin to climb or to "
        "level off.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="[TASK=]K",
        help="Keep the least redundant: 0.5 a share of the rows, caption=1000 a number of rows, "
        "mixture of each dataset the rows that its mixture states.",
    ),
]
Measure = Annotated[
    str | None, typer.Option("--measure", help="Similarity measure, e.g. effective_frames.")
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="[TASK=]NAME",
        help="What puts rows in the order in which they are taken, by comparing them: coverage, "
        "decorrelate, cluster_quota, random, ...; 'none': the measure does.",
    ),
]
PerOption = Annotated[
    str | None,
    typer.Option(
        "--per",
        metavar="row|cost",
        help="cost: take rows by rank for what they cost in training tokens, so that a budget buys "
        "more of it. [row]",
    ),
]
Scores = Annotated[
    str | None,
    typer.Option(
        "--scores",
        metavar="FILE",
        help="Go by scores of yours, larger = keep: Parquet, CSV or JSON Lines with sample_id "
        "and a column of numbers.",
    ),
]
ScoresColumn = Annotated[
    str | None,
    typer.Option("--scores-column", metavar="NAME", help="Which column. [the one of numbers]"),
]
Scorer = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        metavar="NAME@VERSION",
        help="What made the scores. [the file's columns scorer and scorer_version, else its name]",
    ),
]
Missing = Annotated[
    str | None,
    typer.Option(
        "--missing",
        metavar="keep|drop",
        help="What becomes of rows without a score. [nothing is decided]",
    ),
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
    select: Select = None
    per: PerOption = None

    def overrides(self) -> list[tuple[str, Any, str]]:
        """Return the settings that these options stand for: (key, value, origin).

        Raises:
            UserError: an option's value cannot be read, or two are for the same task.
        """
        from vxp_data.settings.words import target_overrides

        found = read_overrides(
            None, measure=self.measure, tokens_per_gpu_hour=self._rate(), per=self._per()
        )
        found += target_overrides(self._target_texts())
        for task, weight in self._weights().items():
            found.append((f"budget_weights.{task}", weight, "--weight"))
        for task, name in self._selectors().items():
            found.append((f"select.{task}", name, f"--select {name}"))
        return found

    def changes(self) -> dict[str, Any]:
        """Return what `redecide` and `plan_choice` take to change a finished run.

        Raises:
            UserError: see `overrides`.
        """
        from vxp_data.settings.words import read_targets

        by_task, default = read_targets(self._target_texts())
        return {
            "measure": self.measure,
            "thresholds": by_task,
            "default": default,
            "weights": self._weights() or None,
            "tokens_per_gpu_hour": self._rate(),
            "select": self._selectors() or None,
            "per": self._per(),
        }

    def _target_texts(self) -> list[TargetText]:
        from vxp_data.settings.words import TargetText

        found = []
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
                origin = f"{option} {text}"
                found.append(TargetText(task=name, text=prefix + value, origin=origin))
        return found

    def _weights(self) -> dict[str, float]:
        from vxp_data.settings.words import read_weights

        split = (text.rpartition("=") for text in self.weight or ())
        return read_weights((task, w, f"--weight {task}{eq}{w}") for task, eq, w in split)

    def _selectors(self) -> dict[str, str]:
        from vxp_data.settings.words import read_selectors

        split = (text.rpartition("=") for text in self.select or ())
        return read_selectors(
            (task or "default", name, f"--select {name}") for task, _, name in split
        )

    def _per(self) -> Per | None:
        from vxp_data.settings.words import read_per

        return read_per(self.per, "--per")

    def _rate(self) -> float | None:
        from vxp_data.settings.words import gpu_hour_rate

        given = self.tokens_per_gpu_hour
        return gpu_hour_rate(given, f"--tokens-per-gpu-hour {given}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludeOptions:
    """What `prune` and `decide` are told about the same video twice, and about evaluation sets."""

    duplicates: Duplicates = None
    exclude: Exclude = None

    def overrides(self) -> list[tuple[str, Any, str]]:
        """Return the settings that these options stand for: (key, value, origin)."""
        return read_overrides(None, duplicates=self.duplicates, exclude=self.exclude or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """What `decide` and `plan` are told about scores that the user brings."""

    scores: Scores = None
    scores_column: ScoresColumn = None
    scorer: Scorer = None
    missing: Missing = None

    def file(self) -> ScoreFile | None:
        """Return the file that is named, and how it is to be read; None where none is.

        Raises:
            UserError: the other options are given without a file, or one is not known.
        """
        from vxp_data.errors import UserError, unknown_name
        from vxp_data.pipeline.curate.outside_scores import ScoreFile

        others = {"--scores-column": self.scores_column, "--scorer": self.scorer,
                  "--missing": self.missing}  # fmt: skip
        if self.scores is None:
            for option, value in others.items():
                if value is not None:
                    raise UserError(
                        f"{option} {value}: is about a file of scores; give --scores FILE."
                    )
            return None
        if self.missing not in (None, "keep", "drop"):
            raise unknown_name("--missing", self.missing, ("keep", "drop"))
        return ScoreFile(
            path=self.scores,
            column=self.scores_column,
            scorer=self.scorer,
            missing=self.missing,
        )
