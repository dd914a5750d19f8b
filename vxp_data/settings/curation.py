"""Settings of what is taken out of a run before a threshold, and of what is compared to select."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from vxp_data.core.budgets import Target
from vxp_data.core.dataset_rows import RowsBy
from vxp_data.core.filters import Bounds
from vxp_data.core.per_cost import Per
from vxp_data.core.thresholds import ThresholdSpec
from vxp_data.errors import UserError
from vxp_data.registry import SELECTORS
from vxp_data.settings.file import Settings

NO_SELECTOR: Final = "none"
"""Stands for none: the measure decides, or the user's scores do."""
Vectors = Literal["encoder", "thumbnail"]
"""What videos are compared by: the run's encoder, or `thumbnail`'s vectors beside it."""
_OF_SCORES: Final = ("fixed", "quantile", "knee")
"""Policies that look at how far scores lie apart, which those of a selector do not tell."""


class BoundsConfig(Settings):
    """The range of values that a filter lets through, ends included."""

    min: float | None = None
    """Least value, in the filter's own unit; None: any."""
    max: float | None = None
    """Greatest value."""
    tasks: tuple[str, ...] = ()
    """Only rows of these tasks; none given: all rows."""

    def bounds(self) -> Bounds:
        """Return the values as the rules take them."""
        return Bounds(low=self.min, high=self.max, tasks=self.tasks)


class DuplicatesConfig(Settings):
    """What is done with the same video twice; see core.duplicates."""

    mode: Literal["off", "report", "drop", "relink"] = "off"
    """'off': none are looked for. 'report': they are listed, nothing else. 'drop': the duplicate's
    rows end as duplicates. 'relink': the duplicate's rows stay, and name the video that is kept in
    its place; a clip that lies inside a longer one is only listed then, since its rows are about
    that part."""
    scope: Literal["all", "subset"] = "all"
    """'subset': only videos of the same task subset can be duplicates of one another."""
    vectors: tuple[Vectors, ...] = ("encoder", "thumbnail")
    """By which vectors videos are compared; a pair is found where one of them finds it. 'encoder':
    those of the run's encoder. 'thumbnail': those of `thumbnail`, which `prune` makes of the same
    frames and keeps beside; left out here, it makes none."""
    threshold: float | None = Field(None, ge=-1, le=1)
    """Least mean cosine of the frames that lie at the same moment, for the vectors of the run's
    encoder. None: that encoder's own, see core.duplicate_thresholds; so for the next two."""
    candidate_cosine: float | None = Field(None, ge=-1, le=1)
    """Pairs are compared frame by frame where their mean embeddings, or the mean of a part of one
    and the mean of the other, have this cosine or more."""
    contrast: float | None = Field(None, ge=0, le=1)
    """How unlike two videos may be, as a share of how unlike the frames of the more static one are
    among themselves."""
    neighbours: int = Field(32, ge=1, le=1024)
    """Nearest videos that are looked at in one go; where all of these are candidates, the search is
    made again among the videos that are left."""
    exclude: tuple[str, ...] = ()
    """What must not be in the training set: text files with an id a line, and directories of other
    runs, whose videos are compared by content and by frames. Applies in every mode."""

    @field_validator("mode", mode="before")
    @classmethod
    def _off_is_a_word(cls, mode: object) -> object:
        return "off" if mode is False else mode  # YAML reads a bare off as false

    @field_validator("vectors")
    @classmethod
    def _each_once(cls, vectors: tuple[Vectors, ...]) -> tuple[Vectors, ...]:
        if not vectors or len(set(vectors)) < len(vectors):
            raise ValueError(
                f"vectors is {list(vectors)}; name 'encoder', 'thumbnail' or both, each once. To "
                "look for no duplicates, set mode to 'off'"
            )
        return vectors

    @model_validator(mode="after")
    def _thresholds_are_used(self) -> Self:
        named = ("threshold", "candidate_cosine", "contrast")
        given = [name for name in named if getattr(self, name) is not None]
        if given and "encoder" not in self.vectors:
            raise ValueError(
                f"{given[0]} is for the vectors of the run's encoder, and vectors leaves these "
                f"out; leave {given[0]} out, or add 'encoder' to vectors"
            )
        return self

    def kept_beside(self, encoder: str) -> bool:
        """Whether `thumbnail`'s vectors are made and kept beside those of an encoder.

        Args:
            encoder: its name; `thumbnail` needs none.
        """
        return "thumbnail" in self.vectors and encoder != "thumbnail"


class SelectionConfig(Settings):
    """How selectors see the rows; see core.selectors."""

    across: Literal["subset", "all"] = "subset"
    """'subset': a selector sees the rows of one task subset. 'all': those of all subsets that it
    orders, together. Either way each subset is cut by itself."""
    seed: int = Field(0, ge=0)
    """Of what is drawn: the order of `random`, the clips that cells of similar clips begin from."""
    per: Per = "row"
    """'row': rows are taken in the order of the selector, the measure or the user's scores. 'cost':
    in that of rank in that order for what a row costs, in tokens of an epoch; see core.per_cost."""


class MixtureConfig(Settings):
    """How many rows of each dataset stay, after filters, duplicates and thresholds."""

    rows: Literal["all", "stated"] = "all"
    """'stated': as many as its mixture says of a dataset; those beyond are pruned as
    `dataset_excess`. 'all': every row that is left, unless a threshold is 'keep mixture', which
    means 'stated', and takes the place of the threshold."""
    datasets: dict[str, int] = {}
    """By dataset, rows instead of those that a mixture file says; above 0."""
    scale: float = Field(1.0, gt=0, le=1)
    """Share of all of these: 0.001 makes a small mixture of the same proportions, for a trial."""
    by: RowsBy = "score"
    """'score': those that a threshold would keep first, the same share of each task; rows without a
    score (images, text) are drawn. 'random': all are drawn."""
    seed: int = Field(0, ge=0)
    """Of what is drawn."""
    too_few: Literal["keep", "refuse"] = "keep"
    """Of a dataset with fewer rows than wanted 'keep' keeps all, and says so; with 'refuse' nothing
    is decided."""

    @field_validator("datasets")
    @classmethod
    def _above_zero(cls, datasets: dict[str, int]) -> dict[str, int]:
        for name, rows in datasets.items():
            if rows < 1:
                raise ValueError(f"{name}: {rows} rows; wanted a whole number above 0")
        return datasets


class ScoresConfig(Settings):
    """Scores that a user has brought, as `vxp-data decide --scores` found them."""

    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Of the user's file, and the name of its copy in the run; '': there are none."""
    name: str = ""
    """What made them."""
    version: str = ""
    """Of that."""
    column: str = ""
    """The column of the file; larger = keep."""
    missing: Literal["refuse", "keep", "drop"] = "refuse"
    """What becomes of a video's row without a score: nothing is decided, it stays, or it goes."""
    num_unknown: int = Field(0, ge=0)
    """Rows of the file that are none of the run's."""

    @property
    def measure(self) -> str:
        """What decisions are said to be made by."""
        return f"scores:{self.name}@{self.version}:{self.column}"


def check_mixture(mixture: MixtureConfig, *, cuts_by_rows: bool) -> None:
    """Check that what is said of rows is used, and that they are chosen in one way.

    Args:
        mixture: the settings.
        cuts_by_rows: a threshold is 'keep mixture'.

    Raises:
        UserError: rows are given that nothing asks for, or are to be drawn where scores decide.
    """
    given = {"mixture.datasets={}": mixture.datasets, "mixture.scale=1": mixture.scale != 1}
    unused = [back for back, is_given in given.items() if is_given]
    if unused and mixture.rows == "all" and not cuts_by_rows:
        names = " and ".join(back.partition("=")[0] for back in unused)
        raise UserError(
            f"{names}: rows of datasets are given, and nothing asks for them: mixture.rows is "
            "'all', which keeps all. Set mixture.rows to 'stated', or a threshold to 'keep "
            f"mixture'; or take them back: {' '.join(f'--set {back}' for back in unused)}."
        )
    if cuts_by_rows and mixture.by == "random":
        raise UserError(
            "mixture.by: 'random' draws rows, and the threshold 'keep mixture' takes them by "
            "score; wanted one of them. To take them by score: --set mixture.by=score. To draw, "
            "set mixture.rows to 'stated' and the threshold to 'keep 1.0' (from all rows)"
            " or 'keep 0.5' (from the less redundant half)."
        )


def is_on_scores(target: Target) -> bool:
    """Whether a threshold looks at how far scores lie apart, not at the order alone."""
    return isinstance(target, ThresholdSpec) and target.policy in _OF_SCORES


def check_selectors(
    select: Mapping[str, str], thresholds: Mapping[str, Target], default: Target, per: Per
) -> None:
    """Check that selectors are known, and that how much is kept is said in rows.

    Args:
        select: names by task, and 'default'.
        thresholds: by task.
        default: for every other task.
        per: what the order is by.

    Raises:
        UserError: a selector is not known, or a threshold is one on scores, which an order has not.
    """
    for name in select.values():
        if name != NO_SELECTOR:
            SELECTORS.require(name)
    for task in {*select, *thresholds, "default"}:
        name = select.get(task, select.get("default", NO_SELECTOR))
        target = thresholds.get(task, default)
        if per == "cost" and is_on_scores(target):
            raise UserError(
                "selection.per: 'cost' puts rows in an order by rank and cost, whose numbers mean "
                f"nothing else; the threshold {str(target)!r} of {task} is one on scores. Say how "
                "much to keep: --keep 0.5 (a share), --keep 1000 (rows) or --budget, or --per row."
            )
        if name != NO_SELECTOR and is_on_scores(target):
            raise UserError(
                f"select.{task}: {name!r} puts rows in an order, and its scores mean nothing else; "
                f"the threshold {str(target)!r} is one on scores. Say how much to keep: "
                "--keep 0.5 (a share), --keep 1000 (rows) or --budget, or select 'none'."
            )
