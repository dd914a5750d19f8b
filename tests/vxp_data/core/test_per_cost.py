"""Quality per cost: ranks and orders by brute force; more to keep never drops what less keeps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.budgets import Budget, Target
from vxp_data.core.cost_model import UNITS, RowCosts
from vxp_data.core.decisions import SampleColumns, decide
from vxp_data.core.per_cost import per_cost, per_cost_scale, quality
from vxp_data.core.similarity import MEAN_PAIRWISE
from vxp_data.core.thresholds import ThresholdSpec

ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"),  # task
        st.sampled_from([-0.5, 0.0, 0.25, 0.5]),  # redundancy
        st.integers(1, 6),  # frames
        st.integers(0, 4),  # file
    ),
    min_size=1,
    max_size=12,
)
Rows = list[tuple[str, float, int, int]]


def ids_of(rows: Rows) -> list[str]:
    return [f"s{7 * i % 13:02d}" for i in range(len(rows))]


def ratio(rows: Rows, row: int) -> Fraction:
    """Return the share of its task's rows that a row is at or ahead of, per frame."""
    task, redundancy, frames, _ = rows[row]
    mine = [other for other in rows if other[0] == task]
    at_or_behind = [other for other in mine if other[1] >= redundancy]
    return Fraction(len(at_or_behind), len(mine)) / frames


def by_hand(rows: Rows) -> dict[str, list[str]]:
    """Return, by task, ids in the order of that."""
    ids = ids_of(rows)
    order: dict[str, list[str]] = {}
    for row in sorted(range(len(rows)), key=lambda row: (-ratio(rows, row), ids[row])):
        order.setdefault(rows[row][0], []).append(ids[row])
    return order


def kept_of(rows: Rows, target: Target) -> set[str]:
    tasks, redundancy, frames, files = (list(column) for column in zip(*rows, strict=True))
    redundancy_N, frames_N = np.array(redundancy), np.array(frames, dtype=np.float64)
    tokens_N, score_N = 36 * frames_N, np.zeros(len(rows))
    for task in set(tasks):
        mine_N = np.array(tasks) == task
        score_N[mine_N] = per_cost(quality(redundancy_N[mine_N]), tokens_N[mine_N])
    nothing = np.full(len(rows), "", dtype=object)
    decided = decide(
        SampleColumns(
            sample_id=ids_of(rows), task=tasks, modality=["video"] * len(rows), reason=nothing,
            media_reason=nothing, score=score_N,
        ),
        thresholds={}, default=target, measure=per_cost_scale(MEAN_PAIRWISE),
        costs=RowCosts(
            frames_N=frames_N, tokens_N=tokens_N, file_N=np.array(files), is_video_N=frames_N > 0,
            duration_s_N=frames_N, num_bytes_N=np.array(files) + 1, tokens_per_gpu_hour=9.0,
        ),
    )  # fmt: skip
    assert set(decided.reason.tolist()) <= {"within_threshold", "not_selected"}
    return {name for name, d in zip(ids_of(rows), decided.decision, strict=True) if d == "keep"}


def test_quality_is_the_share_that_a_row_is_at_or_ahead_of() -> None:
    assert quality(np.array([0.9, -3.0, 0.5, 0.5])).tolist() == [0.25, 1.0, 0.75, 0.75]
    assert quality(np.array([7.0])).tolist() == [1.0]
    assert quality(np.zeros(0)).tolist() == []
    assert per_cost(np.array([0.5]), np.array([2000.0])).tolist() == [250.0]
    assert per_cost_scale(MEAN_PAIRWISE).name == "mean_pairwise/tokens"


@given(rows=ROWS)
def test_quality_is_what_counting_gives(rows: Rows) -> None:
    redundancy = [row[1] for row in rows]
    wanted = [sum(other >= mine for other in redundancy) / len(rows) for mine in redundancy]
    assert quality(np.array(redundancy)).tolist() == pytest.approx(wanted)


def test_a_row_that_costs_nothing_is_our_bug() -> None:
    with pytest.raises(ValueError, match="costs no tokens"):
        per_cost(np.array([1.0]), np.array([0.0]))


@settings(deadline=None)
@given(rows=ROWS, number=st.integers(0, 12))
def test_a_count_keeps_the_first_of_the_order_by_hand(rows: Rows, number: int) -> None:
    wanted = {name for order in by_hand(rows).values() for name in order[:number]}
    kept = kept_of(rows, ThresholdSpec("count", float(number)))
    # Fractions that are equal may differ by a bit as floats: then another of the equals is taken.
    assert len(kept) == len(wanted)
    ids = ids_of(rows)
    ratios = [
        sorted((rows[ids.index(name)][0], ratio(rows, ids.index(name))) for name in names)
        for names in (kept, wanted)
    ]
    assert ratios[0] == ratios[1]


@settings(deadline=None)
@given(
    rows=ROWS,
    unit=st.sampled_from(UNITS),
    pair=st.tuples(st.floats(0, 30), st.floats(0, 30)),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_more_never_drops_what_less_keeps(
    rows: Rows, unit: str, pair: tuple[float, float], shares: tuple[float, float]
) -> None:
    small, large = (kept_of(rows, Budget(unit, amount)) for amount in sorted(pair))
    assert small <= large
    small, large = (kept_of(rows, ThresholdSpec("share", share)) for share in sorted(shares))
    assert small <= large
