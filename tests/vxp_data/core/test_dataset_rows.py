"""Rows of each dataset: which stay, that it is their own affair, and that all are counted."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.dataset_rows import (
    DatasetRows,
    RowsRule,
    cut_to_rows,
    require_rows,
    rows_order,
    wanted_rows,
)
from vxp_data.core.decisions import Decisions, SampleColumns, account, decide
from vxp_data.core.seeds import hash64
from vxp_data.core.similarity import EFFECTIVE_FRAMES, MEAN_PAIRWISE, Measure
from vxp_data.core.thresholds import ThresholdSpec, parse_keep
from vxp_data.errors import UserError

ALL = ThresholdSpec("share", 1.0)
MIXTURE = parse_keep("mixture")
Row = tuple[str, str, str, str, float]
"""(dataset, id, task, modality, score)."""


def columns(rows: list[Row]) -> SampleColumns:
    dataset, sample_id, task, modality, score = (list(c) for c in zip(*rows, strict=True))
    blank = [""] * len(rows)
    return SampleColumns(
        sample_id=sample_id, task=task, modality=modality, reason=blank, media_reason=blank,
        score=np.array(score, dtype=np.float64), dataset=dataset,
    )  # fmt: skip


def cut(
    rows: list[Row],
    wanted: dict[str, int],
    *,
    default: ThresholdSpec = ALL,
    by: Any = "score",
    seed: int = 0,
    measure: Measure = MEAN_PAIRWISE,
) -> tuple[Decisions, tuple[DatasetRows, ...]]:
    samples = columns(rows)
    tasks = sorted({row[2] for row in rows})
    before = decide(samples, thresholds={}, default=default, measure=measure)
    rule = RowsRule(
        datasets=list(dict.fromkeys(row[0] for row in rows)), wanted=wanted, by=by, seed=seed
    )
    by_rows = dict.fromkeys(tasks, default == MIXTURE)
    after, counts = cut_to_rows(samples, before, rule, dict.fromkeys(tasks, measure), by_rows)
    account(after, samples).check()
    return after, counts


def kept(rows: list[Row], decisions: Decisions) -> list[str]:
    return [r[1] for r, d in zip(rows, decisions.decision.tolist(), strict=True) if d == "keep"]


def videos(dataset: str, scores: list[float], task: str = "caption") -> list[Row]:
    return [(dataset, f"{dataset}/{task}{i}", task, "video", s) for i, s in enumerate(scores)]


def test_the_least_redundant_of_each_dataset_stay_and_the_others_have_their_own_reason() -> None:
    rows = videos("a", [0.9, 0.1, 0.5, 0.3]) + videos("b", [0.2, 0.95, 0.97])
    decisions, counts = cut(rows, {"a": 2, "b": 1})
    assert kept(rows, decisions) == ["a/caption1", "a/caption3", "b/caption0"]
    assert Counter(decisions.reason.tolist()) == {"within_threshold": 3, "dataset_excess": 4}
    assert set(decisions.threshold.tolist()) == {0.97}  # the threshold let all through
    assert counts == (
        DatasetRows(dataset="a", wanted=2, num_in=4, found=4, kept=2),
        DatasetRows(dataset="b", wanted=1, num_in=3, found=3, kept=1),
    )


def test_where_rows_are_the_threshold_it_is_that_of_each_dataset() -> None:
    rows = videos("a", [0.9, 0.1, 0.5, 0.3]) + videos("b", [0.2, 0.95])
    decisions, _ = cut(rows, {"a": 2, "b": 5}, default=MIXTURE)
    assert kept(rows, decisions) == ["a/caption1", "a/caption3", "b/caption0", "b/caption1"]
    assert decisions.threshold.tolist() == [0.3] * 4 + [0.95] * 2
    assert Counter(decisions.reason.tolist()) == {"within_threshold": 4, "redundant": 2}


def test_a_measure_whose_low_end_is_redundant_is_cut_at_the_other_end() -> None:
    rows = videos("a", [9.0, 1.0, 5.0])
    decisions, _ = cut(rows, {"a": 2}, default=MIXTURE, measure=EFFECTIVE_FRAMES)
    assert kept(rows, decisions) == ["a/caption0", "a/caption2"]
    assert decisions.threshold.tolist() == [5.0] * 3


def test_every_task_of_a_dataset_keeps_the_same_share() -> None:
    rows = videos("a", [i / 100 for i in range(60)]) + videos(
        "a", [0.9 + i / 1000 for i in range(30)], "open_ended"
    )
    decisions, _ = cut(rows, {"a": 30}, default=MIXTURE)
    tasks = Counter(row.split("/")[1].rstrip("0123456789") for row in kept(rows, decisions))
    assert tasks == {"caption": 20, "open_ended": 10}
    thresholds = dict(zip((row[2] for row in rows), decisions.threshold.tolist(), strict=True))
    assert thresholds == {"caption": 0.19, "open_ended": 0.909}


def test_images_are_drawn_and_keep_their_share_beside_videos() -> None:
    images: list[Row] = [("a", f"a/i{n:02d}", "caption", "image", math.nan) for n in range(20)]
    rows = images + videos("a", [i / 20 for i in range(20)])
    decisions, counts = cut(rows, {"a": 10}, default=MIXTURE)
    names = kept(rows, decisions)
    drawn = sorted((row[1] for row in images), key=lambda i: hash64("mixture", 0, i))[:5]
    assert sorted(names) == sorted(drawn + [f"a/caption{i}" for i in range(5)])
    assert Counter(decisions.reason.tolist()) == {
        "image": 5, "within_threshold": 5, "redundant": 15, "dataset_excess": 15
    }  # fmt: skip
    assert counts[0].kept == 10


def test_draws_are_those_of_the_seed_and_the_ids_whatever_the_order() -> None:
    rows = videos("a", [0.5 + i / 100 for i in range(40)])
    first = cut(rows, {"a": 10}, by="random")[0]
    wanted = sorted((row[1] for row in rows), key=lambda i: hash64("mixture", 0, i))[:10]
    assert sorted(kept(rows, first)) == sorted(wanted)
    backward = rows[::-1]
    assert set(kept(backward, cut(backward, {"a": 10}, by="random")[0])) == set(wanted)
    other = cut(rows, {"a": 10}, by="random", seed=1)[0]
    assert set(kept(rows, other)) != set(wanted)
    more = kept(rows, cut(rows, {"a": 11}, by="random")[0])
    assert set(wanted) < set(more)


def test_draws_take_every_row_about_as_often() -> None:
    rows = videos("a", [0.5] * 30)
    times: Counter[str] = Counter()
    for seed in range(400):
        times.update(kept(rows, cut(rows, {"a": 10}, by="random", seed=seed)[0]))
    expected = 400 / 3
    chi2 = sum((times[row[1]] - expected) ** 2 / expected for row in rows)
    assert chi2 < 52.3  # 29 degrees of freedom, 0.5 %


def test_rows_that_are_not_stated_are_left_and_an_empty_dataset_is_counted() -> None:
    rows = videos("a", [0.1, 0.2])
    decisions, counts = cut(rows, {})
    assert kept(rows, decisions) == ["a/caption0", "a/caption1"]
    assert counts == (DatasetRows(dataset="a", wanted=None, num_in=2, found=2, kept=2),)
    samples = columns(rows)
    rule = RowsRule(datasets=["a", "empty"], wanted={"empty": 3})
    _, counts = cut_to_rows(
        samples, decisions, rule, {"caption": MEAN_PAIRWISE}, {"caption": False}
    )
    assert counts[1] == DatasetRows(dataset="empty", wanted=3, num_in=0, found=0, kept=0)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.sampled_from(["caption", "open_ended"]),
            st.sampled_from(["video", "image", "text"]), st.sampled_from([0.1, 0.5, 0.5, 0.9]),
        ),
        min_size=1, max_size=30,
    ),
    wanted=st.integers(1, 12),
    by=st.sampled_from(["score", "random"]),
)  # fmt: skip
def test_a_dataset_keeps_what_is_wanted_or_all_and_more_never_drops(
    rows: list[tuple[str, str, str, float]], wanted: int, by: str
) -> None:
    made = [
        (d, f"{d}/{i}", t, m, s if m == "video" else math.nan)
        for i, (d, t, m, s) in enumerate(rows)
    ]
    names = []
    for number in (wanted, wanted + 1):
        decisions, counts = cut(made, {"a": number, "b": number}, by=by)
        there = Counter(row[0] for row in made)
        assert {c.dataset: c.kept for c in counts} == {d: min(n, number) for d, n in there.items()}
        names.append(set(kept(made, decisions)))
    assert names[0] <= names[1]


def test_the_order_of_a_dataset_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    redundancy_M = rng.choice([0.1, 0.2, 0.3], size=50)
    redundancy_M[::7] = np.nan
    task_M = np.array(["x", "y"], dtype=object)[rng.integers(0, 2, size=50)]
    ids_M = np.array([f"s{n:02d}" for n in rng.permutation(50)], dtype=object)
    rule = RowsRule(datasets=["a"], wanted={}, seed=3)
    got = ids_M[rows_order(rule, ids_M, task_M, redundancy_M)].tolist()
    places = []
    for task in ("x", "y"):
        for scored in (True, False):
            own = [
                (redundancy_M[i] if scored else hash64("mixture", 3, ids_M[i]), ids_M[i])
                for i in range(50)
                if task_M[i] == task and scored != bool(np.isnan(redundancy_M[i]))
            ]
            group = (task, not scored)
            places += [
                ((k + 0.5) / len(own), group, k, name) for k, (_, name) in enumerate(sorted(own))
            ]
    assert got == [place[-1] for place in sorted(places)]


def test_wanted_rows_are_scaled_to_the_nearest_number_and_never_to_none() -> None:
    stated = {"a": 800_000, "b": 700, "c": 10, "d": None}
    assert wanted_rows(stated, {}, 0.001) == {"a": 800, "b": 1, "c": 1}
    assert wanted_rows(stated, {"d": 5, "a": 7}, 1.0) == {"a": 7, "b": 700, "c": 10, "d": 5}
    with pytest.raises(UserError, match=r"unknown dataset in mixture\.datasets 'bb'.*Known: a, b"):
        wanted_rows(stated, {"bb": 1}, 1.0)
    with pytest.raises(UserError, match=r"none of the datasets of this run \(d\) states how many"):
        wanted_rows({"d": None}, {}, 1.0)


def test_too_few_rows_are_refused_with_the_numbers() -> None:
    enough = DatasetRows(dataset="a", wanted=5, num_in=9, found=5, kept=5)
    require_rows([enough, replace(enough, wanted=None, found=0)])
    with pytest.raises(UserError, match=r"1 of 2 datasets have fewer.*b 1,200 of 3,000"):
        require_rows([enough, replace(enough, dataset="b", wanted=3000, found=1200)])
