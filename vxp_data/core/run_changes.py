"""What changed between two decisions, as plain values: the pipeline finds it, the report draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ABSENT: Final = "absent"
"""In place of an outcome: the run has no such row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row that changed."""

    sample_id: str
    score_a: float | None
    score_b: float | None
    media_uri: str
    question: str
    """Of the row's first exchange; '' for a caption without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Rows of one subset that ended in one way in A and in another in B."""

    task: str
    outcome_a: str
    """Of records.Outcome, or ABSENT."""
    reason_a: str
    outcome_b: str
    reason_b: str
    num_rows: int
    examples: tuple[Example, ...]
    """The first of them, in the order of A's rows, then of B's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One subset in one run."""

    rows: int
    kept: int
    threshold: float | None
    """In the units of the run's measure; None where nothing was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two decisions side by side."""

    measure_a: str
    measure_b: str
    num_same: int
    """Rows with the same outcome and reason in both."""
    num_changed: int
    subsets: Mapping[str, tuple[Side, Side]]
    """By task, sorted: in A and in B."""
    costs_a: Mapping[str, float]
    """What A keeps, by unit; see core.cost_model."""
    costs_b: Mapping[str, float]
    changes: tuple[Change, ...]
    """By task, then the most frequent first."""
