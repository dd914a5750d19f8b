"""Budgets and costs: never exceeded, met in order, files counted once; knee and keep curve."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.budgets import Budget, RowsToCut, fit, parse_budget, resolve
from vxp_data.core.cost_model import UNITS, CostModel, RowCosts, drawn_frames, expected_frames
from vxp_data.core.decisions import SampleColumns, decide
from vxp_data.core.keep_curve import joint_curve, keep_curve
from vxp_data.core.sampling_plans import SamplingRule, draw_plan
from vxp_data.core.similarity import EFFECTIVE_FRAMES, MEAN_PAIRWISE, outside_scale
from vxp_data.core.thresholds import ThresholdSpec, count, keep_order, knee, parse_keep
from vxp_data.errors import UserError
from vxp_data.registry import SAMPLING_POLICIES


def costs_of(
    frames: list[float], files: list[int], *, rate: float | None = None, **more: Any
) -> RowCosts:
    frames_N = np.array(frames, dtype=np.float64)
    columns = {
        "is_video_N": np.array(files) >= 0,
        "duration_s_N": np.array([3600.0 * (f + 1) for f in files]),
        "num_bytes_N": np.array([1000 * (f + 1) for f in files]),
        **more,
    }
    return RowCosts(
        frames_N=frames_N,
        tokens_N=36 * frames_N,
        file_N=np.array(files, dtype=np.int64),
        tokens_per_gpu_hour=rate,
        **columns,
    )


@pytest.mark.parametrize(
    ("text", "unit", "amount", "canonical"),
    [
        ("gpu_hours=40", "gpu_hours", 40, "gpu_hours=40"),
        ("frames=2M", "frames", 2e6, "frames=2000000"),
        ("tokens=1B", "tokens", 1e9, "tokens=1000000000"),
        (" bytes = 500G ", "bytes", 5e11, "bytes=500000000000"),
        ("bytes=1.5Gi", "bytes", 1.5 * 2**30, "bytes=1610612736"),
        ("videos=1e5", "videos", 1e5, "videos=100000"),
        ("hours=.25", "hours", 0.25, "hours=0.25"),
    ],
)
def test_budget_is_read_and_its_canonical_text_reads_the_same(
    text: str, unit: str, amount: float, canonical: str
) -> None:
    budget = parse_budget(text)
    assert (budget, str(budget)) == (Budget(unit, amount), canonical)
    assert parse_budget(canonical) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frames", "got 'frames', wanted a unit .* and an amount, such as 'frames=2M'"),
        ("frames=2Q", "wanted a unit"),
        ("frames=-3", "wanted a unit"),
        ("tokns=1", "unknown budget unit 'tokns'. Did you mean 'tokens'"),
        ("tokens=" + "9" * 400, "got inf, wanted a number"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_budget(text)


def test_rows_cost_frames_each_and_files_count_once() -> None:
    costs = costs_of([10, 20, 5, 1], [0, 1, 0, -1], rate=360)
    order = np.array([2, 0, 1, 3])
    assert {unit: costs.along(order, unit).tolist() for unit in UNITS} == {
        "rows": [1, 2, 3, 4],
        "frames": [5, 15, 35, 36],
        "tokens": [180, 540, 1260, 1296],
        "gpu_hours": [0.5, 1.5, 3.5, 3.6],
        "videos": [1, 1, 2, 2],
        "hours": [1, 1, 3, 3],
        "bytes": [1000, 1000, 3000, 3000],
    }
    assert {unit: costs.total(order, unit) for unit in UNITS} == {
        unit: costs.along(order, unit)[-1] for unit in UNITS
    }


def test_a_files_hours_are_those_of_its_longest_clip() -> None:
    costs = costs_of([1, 1], [0, 0], duration_s_N=np.array([36.0, 7200.0]))
    assert costs.total(np.array([0]), "hours") == 2.0


def test_gpu_hours_without_a_rate_say_how_to_give_it() -> None:
    costs = costs_of([1], [0])
    assert "gpu_hours" not in costs.units()
    with pytest.raises(UserError, match="Give --tokens-per-gpu-hour"):
        costs.total(np.array([0]), "gpu_hours")
    with pytest.raises(ValueError, match=r"costs\.tokens_per_gpu_hour: got 0, wanted"):
        CostModel(tokens_per_gpu_hour=0)


@pytest.mark.parametrize("policy", SAMPLING_POLICIES.names())
@pytest.mark.parametrize("fps", [0.5, 3.0, 25.0])
def test_expected_frames_are_the_mean_over_the_plans_of_every_draw(policy: str, fps: float) -> None:
    rule = SamplingRule(policy=policy)
    durations_s = [0.02, 0.5, 1.0, 7.3, 59.99, 90.0, 119.99, 120.0, 179.9, 180.0, 180.3, 361, 4000]
    num_frames = [max(1, round(s * fps)) for s in durations_s]
    got = expected_frames(rule, np.array(durations_s), np.array(num_frames, dtype=np.float64))
    for duration_s, frames, expected in zip(durations_s, num_frames, got, strict=True):
        time_s = np.arange(frames) * duration_s / frames
        lengths_by_rate = {
            plan.fps: len(plan)
            for epoch in range(40)
            for plan in [
                draw_plan(
                    rule,
                    sample_id="a",
                    epoch=epoch,
                    time_s_N=time_s,
                    duration_s=duration_s,
                    source_fps=fps,
                )
            ]
        }
        assert expected == pytest.approx(np.mean(list(lengths_by_rate.values())), abs=1.0)


def test_expected_frames_of_a_fixed_rate_are_exact() -> None:
    rng = np.random.default_rng(3)
    duration_s = np.round(rng.uniform(0.1, 500, 200), 3)
    rule = SamplingRule(policy="fixed_fps", fps=2.0)
    got = expected_frames(rule, duration_s, np.ceil(duration_s * 30))
    for length_s, expected in zip(duration_s.tolist(), got.tolist(), strict=True):
        time_s = np.arange(math.ceil(length_s * 30)) / 30
        plan = draw_plan(
            rule, sample_id="a", epoch=0, time_s_N=time_s, duration_s=length_s, source_fps=30
        )
        assert len(plan) == expected


rows_of_a_run = st.lists(
    st.tuples(
        st.sampled_from("ab"),  # task
        st.sampled_from([0.0, 0.25, 0.5, 0.75]),  # score
        st.integers(0, 5),  # frames
        st.integers(0, 4),  # file
        st.booleans(),  # an image
    ),
    max_size=12,
)


def rows_to_cut(rows: list[tuple[str, float, int, int, bool]]) -> RowsToCut:
    is_image = np.array([row[4] for row in rows], dtype=np.bool_)
    return RowsToCut(
        sample_id_N=np.array([f"s{7 * i % 13:02d}" for i in range(len(rows))], dtype=object),
        task_N=np.array([row[0] for row in rows], dtype=object),
        score_N=np.array([row[1] for row in rows], dtype=np.float64),
        cut_N=~is_image,
        kept_N=is_image,
        costs=costs_of([row[2] for row in rows], [row[3] for row in rows], rate=36.0),
    )


def cost_by_hand(rows: RowsToCut, kept: set[int], unit: str) -> float:
    """Add up, without our own code."""
    files = {int(rows.costs.file_N[i]) for i in kept}
    frames = sum(float(rows.costs.frames_N[i]) for i in kept)
    return {
        "rows": len(kept),
        "frames": frames,
        "tokens": 36 * frames,
        "gpu_hours": frames,
        "videos": len(files),
        "hours": sum(f + 1 for f in files),
        "bytes": sum(1000 * (f + 1) for f in files),
    }[unit]


def first_rows(rows: RowsToCut, task: str, number: int) -> list[int]:
    mine = [i for i in range(len(rows.task_N)) if rows.task_N[i] == task and rows.cut_N[i]]
    return sorted(mine, key=lambda i: (rows.score_N[i], rows.sample_id_N[i]))[:number]


@settings(deadline=None)
@given(rows=rows_of_a_run, unit=st.sampled_from(UNITS), part=st.floats(0, 1.2))
def test_a_budget_is_never_exceeded_and_what_is_left_pays_for_no_further_share(
    rows: list[tuple[str, float, int, int, bool]], unit: str, part: float
) -> None:
    table = rows_to_cut(rows)
    images = set(np.flatnonzero(table.kept_N).tolist())
    whole = cost_by_hand(table, set(range(len(rows))), unit)
    before = cost_by_hand(table, images, unit)
    budget = Budget(unit, before + part * (whole - before))
    specs, _ = resolve({}, budget, {}, table, MEAN_PAIRWISE)
    numbers = {task: int(spec.value) for task, spec in specs.items()}
    kept = {i for task, n in numbers.items() for i in first_rows(table, task, n)} | images
    spent = cost_by_hand(table, kept, unit)
    assert spent <= budget.amount * (1 + 2e-9)
    if part >= 1:
        assert len(kept) == len(rows)
    # A step further in every subset that is not whole would not fit: no budget is left lying.
    more = {
        task: n + 1 for task, n in numbers.items() if n < len(first_rows(table, task, len(rows)))
    }
    further = kept | {i for task, n in more.items() for i in first_rows(table, task, n)}
    if more:
        assert cost_by_hand(table, further, unit) > budget.amount - 1e-6 * max(1, budget.amount)


@settings(deadline=None)
@given(
    rows=rows_of_a_run,
    unit=st.sampled_from(UNITS),
    pair=st.tuples(st.floats(0, 20), st.floats(0, 20)),
)
def test_a_larger_budget_never_drops_a_row_that_a_smaller_one_keeps(
    rows: list[tuple[str, float, int, int, bool]], unit: str, pair: tuple[float, float]
) -> None:
    table = rows_to_cut([(*row[:4], False) for row in rows])
    small, large = (
        resolve({}, Budget(unit, amount), {}, table, MEAN_PAIRWISE)[0] for amount in sorted(pair)
    )
    assert all(small[task].value <= large[task].value for task in small)


def subset_rows(sizes: dict[str, int], frames: float = 10) -> RowsToCut:
    tasks = list(itertools.chain.from_iterable([task] * n for task, n in sizes.items()))
    rows = [(task, i / 1000, frames, i, False) for i, task in enumerate(tasks)]
    return rows_to_cut(rows)  # type: ignore[arg-type]


def kept_numbers(specs: dict[str, ThresholdSpec]) -> dict[str, int]:
    return {task: int(spec.value) for task, spec in specs.items()}


def test_every_subset_keeps_the_same_share_and_weights_change_it() -> None:
    rows = subset_rows({"a": 100, "b": 50})
    even, _ = resolve({}, Budget("frames", 750), {}, rows, MEAN_PAIRWISE)
    assert kept_numbers(even) == {"a": 50, "b": 25}
    doubled, _ = resolve({}, Budget("frames", 800), {"b": 2.0}, rows, MEAN_PAIRWISE)
    assert kept_numbers(doubled) == {"a": 40, "b": 40}  # 40 % of a, 80 % of b


def test_a_subset_that_is_kept_whole_leaves_the_rest_to_the_others() -> None:
    rows = subset_rows({"a": 100, "b": 50})
    specs, _ = resolve({}, Budget("frames", 1200), {"b": 10.0}, rows, MEAN_PAIRWISE)
    assert kept_numbers(specs) == {"a": 70, "b": 50}


def test_a_task_with_a_target_of_its_own_is_no_part_of_the_others_budget() -> None:
    rows = subset_rows({"a": 100, "b": 50, "c": 10})
    specs, _ = resolve(
        {"a": parse_keep("0.9"), "c": Budget("rows", 3)}, Budget("frames", 20), {}, rows,
        MEAN_PAIRWISE,
    )  # fmt: skip
    assert specs == {
        "a": parse_keep("0.9"), "b": ThresholdSpec("count", 2), "c": ThresholdSpec("count", 3)
    }  # fmt: skip


def test_a_file_in_two_subsets_is_paid_for_once() -> None:
    rows = rows_to_cut([(task, i / 10, 1, i, False) for task in "ab" for i in range(4)])
    specs, _ = resolve({}, Budget("videos", 3), {}, rows, MEAN_PAIRWISE)
    assert kept_numbers(specs) == {"a": 3, "b": 3}


def test_images_are_paid_for_first_and_refused_where_they_cost_more_than_there_is() -> None:
    rows = rows_to_cut([("a", 0.1, 4, 0, True), ("a", 0.2, 3, 1, False), ("a", 0.3, 3, 2, False)])
    specs, _ = resolve({}, Budget("frames", 8), {}, rows, MEAN_PAIRWISE)
    assert kept_numbers(specs) == {"a": 1}
    with pytest.raises(UserError, match="the images alone, which are always kept, cost 4 frames"):
        resolve({}, Budget("frames", 3), {}, rows, MEAN_PAIRWISE)


def test_weights_are_checked() -> None:
    rows = subset_rows({"caption": 2})
    with pytest.raises(UserError, match="unknown task in budget weights"):
        resolve({}, Budget("rows", 1), {"captoin": 1.0}, rows, MEAN_PAIRWISE)
    with pytest.raises(UserError, match=r"budget weight of caption: got 0\.0"):
        resolve({}, Budget("rows", 1), {"caption": 0.0}, rows, MEAN_PAIRWISE)


def test_a_measure_of_the_other_direction_keeps_its_high_end() -> None:
    rows = rows_to_cut([("a", score, 1, i, False) for i, score in enumerate([0.0, 0.75, 0.5])])
    samples = SampleColumns(
        sample_id=rows.sample_id_N,
        task=rows.task_N,
        modality=np.array(["video"] * 3, dtype=object),
        reason=np.array([""] * 3, dtype=object),
        media_reason=np.array([""] * 3, dtype=object),
        score=rows.score_N + 1,
    )
    by_measure = ((MEAN_PAIRWISE, [True, False, True]), (EFFECTIVE_FRAMES, [False, True, True]))
    for measure, kept in by_measure:
        done = decide(
            samples, thresholds={}, default=Budget("frames", 2), measure=measure, costs=rows.costs
        )
        assert (done.decision == "keep").tolist() == kept


@settings(deadline=None)
@given(values=st.lists(st.sampled_from([0.1, 0.2, 0.3]) | st.floats(-1, 1), max_size=25))
def test_keep_order_begins_with_the_rows_that_count_keeps(values: list[float]) -> None:
    names = [f"s{7 * i % 29:02d}" for i in range(len(values))]
    redundancy = np.array(values, dtype=np.float64)
    order = keep_order(redundancy, names)
    for number in range(len(values) + 1):
        kept = np.flatnonzero(count(redundancy, names, number).keep_N)
        assert sorted(order[:number].tolist()) == kept.tolist()


def test_the_knee_is_where_a_heap_begins_or_ends() -> None:
    names = [f"{i:03d}" for i in range(1000)]
    varied_then_heap = np.concatenate([np.linspace(0, 0.8, 200), np.linspace(0.8, 0.9, 800)])
    assert knee(varied_then_heap, names, 0).threshold == pytest.approx(0.8, abs=0.01)
    heap_then_static = np.concatenate([np.linspace(0.1, 0.2, 800), np.linspace(0.2, 1, 200)])
    assert knee(heap_then_static, names, 0).threshold == pytest.approx(0.2, abs=0.01)


def test_a_few_odd_videos_do_not_move_the_knee_and_a_straight_line_keeps_all() -> None:
    heap_then_static = np.concatenate([np.linspace(0.1, 0.2, 800), np.linspace(0.2, 1, 200)])
    odd = np.concatenate([heap_then_static, [-1.0, -0.9]])
    names = [f"{i:04d}" for i in range(len(odd))]
    assert knee(odd, names, 0).threshold == pytest.approx(0.2, abs=0.02)
    assert knee(np.linspace(0, 1, 101), names[:101], 0).keep_N.all()
    assert knee(np.full(50, 0.5), names[:50], 0).keep_N.all()


def test_a_curve_says_what_every_share_keeps_and_costs() -> None:
    costs = costs_of([10, 20, 5, 1], [0, 1, 0, 2])
    score = np.array([0.2, 0.4, 0.1, 0.9])
    curve = keep_curve(np.array([2, 0, 1, 3]), score, costs, num_points=4)
    assert curve.share_P.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.threshold_P.tolist() == [0.1, 0.2, 0.4, 0.9]
    assert curve.costs["frames"].tolist() == [5, 15, 35, 36]
    assert curve.costs["videos"].tolist() == [1, 1, 2, 3]
    assert len(keep_curve(np.array([2, 0]), score, costs, num_points=100)) == 2
    assert len(keep_curve(np.zeros(0, dtype=np.intp), score, costs, num_points=100)) == 0


@settings(deadline=None)
@given(sizes=st.tuples(st.integers(0, 9), st.integers(0, 9)), points=st.integers(1, 12))
def test_a_joint_curve_keeps_of_each_subset_what_the_policy_share_keeps(
    sizes: tuple[int, int], points: int
) -> None:
    number = sum(sizes)
    costs = costs_of([1.0] * number, [i % 5 for i in range(number)])
    orders = [np.arange(sizes[0]), np.arange(sizes[0], number)]
    curve = joint_curve(orders, costs, num_points=points)
    assert len(curve) == (points if number else 0)
    for share, rows, videos in zip(
        curve.share_P, curve.costs["rows"], curve.costs["videos"], strict=True
    ):
        kept = [order[: math.floor(share * len(order) + 0.5)] for order in orders]
        assert rows == sum(map(len, kept))
        assert videos == len({int(i) % 5 for part in kept for i in part})


def test_fit_takes_the_last_row_that_still_fits() -> None:
    costs = costs_of([0.1] * 10, list(range(10)))
    assert fit(Budget("frames", 0.3), [np.arange(10)], [1.0], np.zeros(0, np.intp), costs) == [3]


@pytest.mark.parametrize("policy", SAMPLING_POLICIES.names())
def test_drawn_frames_are_those_of_the_rows_own_plans(policy: str) -> None:
    rng = np.random.default_rng(8)
    rule = SamplingRule(policy=policy, seed=3)
    num_frames = rng.integers(1, 6000, 80)
    names = [f"s{i}" for i in range(80)]
    for epoch in (0, 5):
        got = drawn_frames(rule, names, num_frames / 20, num_frames.astype(float), epoch=epoch)
        for name, frames, drawn in zip(names, num_frames.tolist(), got.tolist(), strict=True):
            plan = draw_plan(
                rule,
                sample_id=name,
                epoch=epoch,
                time_s_N=np.arange(frames) / 20,
                duration_s=frames / 20,
                source_fps=20,
            )
            assert len(plan) == drawn


def test_a_budget_goes_along_the_order_of_each_tasks_own_scale():
    """The dear row is first by its own scale, last by the other: then two cheap ones fit."""
    rows = RowsToCut(
        sample_id_N=np.array(["a", "b", "c"], object),
        task_N=np.array(["t"] * 3, object),
        score_N=np.array([0.9, 0.2, 0.1]),
        cut_N=np.ones(3, dtype=np.bool_),
        kept_N=np.zeros(3, dtype=np.bool_),
        costs=costs_of([8.0, 2.0, 2.0], [0, 1, 2]),
    )
    budget = parse_budget("frames=8")
    by_own, _ = resolve({}, budget, {}, rows, MEAN_PAIRWISE, {"t": outside_scale("mine")})
    by_other, _ = resolve({}, budget, {}, rows, MEAN_PAIRWISE)
    assert (by_own["t"].value, by_other["t"].value) == (1, 2)
