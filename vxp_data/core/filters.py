"""Rules that exclude rows before any threshold: one number a row, and the range it may have.

Shapes: N rows of a run, in order.

A rule measures; the bounds that a user gives decide. Rows about which a rule says nothing (a
duration of a text) have NaN and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vxp_data.errors import UserError
from vxp_data.records import FILTER_REASONS, Modality, is_filter_reason
from vxp_data.registry import FILTERS

Turns = Sequence[tuple[str, str]]
"""(question, answer) pairs of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What rules measure; facts of media are those of each row's clip.

    NaN where it has none, and 0 where a file does not say (see `records.Media`): a rule that
    divides looks first.
    """

    sample_id: Sequence[str]
    task: Sequence[str]
    modality: Sequence[str]
    index_N: NDArray[np.int64]
    """Number of each row's clip, -1 for none."""
    duration_s_N: NDArray[np.float64]
    width_px_N: NDArray[np.float64]
    height_px_N: NDArray[np.float64]
    audio_streams_N: NDArray[np.float64]
    exact_share_N: NDArray[np.float64]
    """Share of the planned frames that were decoded."""
    change_N: NDArray[np.float64]
    """Mean change from one frame to the next, see `core.frame_statistics`; NaN where no rule asks.
    So the next two."""
    scene_changes_N: NDArray[np.float64]
    """Changes above CUT_CHANGE."""
    blank_share_N: NDArray[np.float64]
    """Share of frames whose contrast is BLANK_CONTRAST or less."""
    similarity_N: NDArray[np.float64]
    """Of an image-text pair; NaN where no rule asks, or where it was not measured."""
    exchanges: Sequence[Turns]
    """Empty where no rule asks."""

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of row facts differ in length: {lengths}; want N each")

    def is_modality(self, modality: Modality) -> NDArray[np.bool_]:
        """Return which rows are of a modality."""
        is_it_N: NDArray[np.bool_] = np.array([own == modality for own in self.modality], np.bool_)
        return is_it_N

    def of(self, wanted_N: NDArray[np.bool_]) -> RowFacts:
        """Return what is known of some rows alone."""
        row_M = np.flatnonzero(wanted_N)
        changes: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            is_array = isinstance(column, np.ndarray)
            changes[field.name] = column[row_M] if is_array else [column[row] for row in row_M]
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """One rule: what it measures, and how rows end that are out of bounds."""

    name: str
    """Its name in registry.FILTERS and in the settings."""
    version: int
    """Counts up with every change of the numbers."""
    unit: str
    low: float
    """Least possible value."""
    high: float
    """Greatest possible value; infinity where there is none."""
    below: str | None
    """Reason of rows below the minimum, one of records.FILTER_REASONS or the rule's own text
    'filter:<words>'; None: a minimum makes no sense."""
    above: str | None
    """Reason of rows above the maximum, likewise."""
    needs: Literal["media", "frame_statistics", "text", "similarity"]
    """What is read for it: media.parquet; the measures of frames there; the texts; the texts and
    what a model made of them."""
    of_rows: Callable[[RowFacts], NDArray[np.float64]]
    """float64 [N] in [low, high], NaN for rows that it is not about, or about which nothing is
    known."""
    of_what_stays: bool = False
    """It compares rows with one another, and sees only those that the filters before it, and all
    without this mark, let through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range that a rule's values may have, ends included; for some tasks or all."""

    low: float | None = None
    high: float | None = None
    tasks: tuple[str, ...] = ()
    """Only rows of these; none given: all rows."""


def load_rule(name: str) -> FilterRule:
    """Return the rule of a name.

    Raises:
        UserError: there is none, or it gives a reason that no filter may give.
    """
    rule: FilterRule = FILTERS.load(name)
    for reason in (rule.below, rule.above):
        if reason is not None and not is_filter_reason(reason):
            raise UserError(
                f"filter {name!r}: its reason is {reason!r}, wanted 'filter:' and words of its own "
                f"in small letters, such as 'filter:{name}', or one of: "
                f"{', '.join(sorted(FILTER_REASONS))}. Whoever wrote the filter must mend that; "
                "until then leave it out."
            )
    return rule


def check_bounds(name: str, bounds: Bounds) -> None:
    """Check that bounds fit their rule.

    Raises:
        UserError: an unknown rule, none or impossible bounds, or one that the rule has no use for.
    """
    rule = load_rule(name)
    if bounds.low is None and bounds.high is None:
        raise UserError(f"filters.{name}: got neither min nor max, wanted one or both.")
    for end, value, reason in (("min", bounds.low, rule.below), ("max", bounds.high, rule.above)):
        if value is None:
            continue
        if reason is None:
            other = "max" if end == "min" else "min"
            raise UserError(f"filters.{name}: has no {end}, only {other}.")
        if not rule.low <= value <= rule.high:
            raise UserError(
                f"filters.{name}.{end}: got {value:g}, wanted a value in [{rule.low:g}, "
                f"{rule.high:g}] ({rule.unit})."
            )
    if bounds.low is not None and bounds.high is not None and bounds.low > bounds.high:
        raise UserError(f"filters.{name}: min {bounds.low:g} is above max {bounds.high:g}.")


def filter_rows(
    facts: RowFacts, bounds: Mapping[str, Bounds]
) -> tuple[NDArray[np.object_], dict[str, NDArray[np.float64]]]:
    """Measure rows by each rule that has bounds.

    Args:
        facts: N rows that could be used.
        bounds: by rule; where a row is out of several, the first gives the reason, those that
            see only what stays after the others.

    Returns:
        The reason of each row, '' for one that stays; and the values by rule.

    Raises:
        UserError: a rule gives something else than one number or NaN a row.
    """
    num_rows = len(facts.sample_id)
    reason_N = np.full(num_rows, "", dtype=object)
    values: dict[str, NDArray[np.float64]] = {}
    task_N = np.asarray(facts.task, dtype=object)
    rules = {name: load_rule(name) for name in bounds}
    for name in sorted(rules, key=lambda name: rules[name].of_what_stays):  # else in their order
        rule, wanted = rules[name], bounds[name]
        seen_N = np.ones(num_rows, np.bool_)
        if rule.of_what_stays:  # a row of several media is there once for each, and goes whole
            sample_id_N = np.asarray(facts.sample_id, dtype=object)
            seen_N = ~np.isin(sample_id_N, sample_id_N[reason_N != ""])
        value_N = np.full(num_rows, np.nan)
        value_N[seen_N] = _values_of(rule, facts if seen_N.all() else facts.of(seen_N))
        mine_N = np.isin(task_N, wanted.tasks) if wanted.tasks else np.ones(num_rows, np.bool_)
        values[name] = np.where(mine_N, value_N, np.nan)
        for out_N, reason in (
            (values[name] < (-np.inf if wanted.low is None else wanted.low), rule.below),
            (values[name] > (np.inf if wanted.high is None else wanted.high), rule.above),
        ):
            if reason is not None:
                reason_N[out_N & (reason_N == "")] = str(reason)
    return reason_N, {name: values[name] for name in bounds}


def _values_of(rule: FilterRule, facts: RowFacts) -> NDArray[np.float64]:
    """Measure rows by a rule, which may be a stranger's: what it gives is looked at."""
    value_N = np.asarray(rule.of_rows(facts), dtype=np.float64)
    mend = "Whoever wrote the filter must mend that; until then leave it out."
    num_rows = len(facts.sample_id)
    if value_N.shape != (num_rows,):
        raise UserError(
            f"filter {rule.name!r}: gave an array of shape {value_N.shape} for {num_rows} rows, "
            f"wanted one number a row. {mend}"
        )
    # An infinity comes of dividing by a fact that is 0 where nobody knows it, and would be taken
    # for a row far out of bounds.
    if (infinite_N := np.isinf(value_N)).any():
        row = int(infinite_N.argmax())
        raise UserError(
            f"filter {rule.name!r}: gave {value_N[row]} for {facts.sample_id[row]!r} "
            f"({int(infinite_N.sum())} of {num_rows} rows), wanted a number, or NaN where nothing "
            f"is known. {mend}"
        )
    return value_N
