"""The selectors' leaderboard: its pools are what they say, its statistics are right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import selector_cutouts
import selector_figures
import selector_pools
import student_t

from support.later import LATER

if LATER:
    import torch

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262}
"""Of a printed table, by degrees of freedom."""

# Student's t with 4 degrees of freedom has a closed form: the probability below t.
CLOSED_FORM_4 = {1.0: 0.8130495168, 2.0: 0.9419417382, 4.604095: 0.995}


@pytest.mark.parametrize(("degrees", "wanted"), T_975.items())
def test_quantiles_are_those_of_the_table(degrees: int, wanted: float) -> None:
    assert student_t.quantile(0.975, degrees) == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize(("t", "wanted"), CLOSED_FORM_4.items())
def test_probability_is_the_closed_form(t: float, wanted: float) -> None:
    assert student_t.probability(t, 4) == pytest.approx(wanted, abs=1e-6)
    assert student_t.probability(-t, 4) == pytest.approx(1 - wanted, abs=1e-6)


def test_differences_that_are_the_same_but_for_rounding_are_sure() -> None:
    for t in (1e3, 1e5, 1e9, 1e16):
        wanted = 0.5 + t / (2 * (t**2 + 2) ** 0.5)  # the closed form of 2 degrees of freedom
        assert student_t.probability(t, 2) == pytest.approx(wanted, abs=1e-12)
        assert all(1 - 1e-3 < student_t.probability(t, degrees) <= 1 for degrees in (1, 4, 9))
    same = student_t.paired([0.3 - 0.1, 0.4 - 0.2, 0.5 - 0.3])
    assert 0 < same.error < 1e-15
    assert 0 <= same.p_value < 1e-9


def test_an_interval_is_t_times_the_standard_error_to_either_side() -> None:
    found = student_t.paired([0.01, 0.02, 0.03, 0.04, 0.05])  # deviation 0.0158, error 0.00707
    assert found.interval() == pytest.approx((0.03 - 2.776 * 0.0070711, 0.03 + 2.776 * 0.0070711),
                                             abs=1e-5)  # fmt: skip


def test_holm_steps_down_and_stops() -> None:
    family = {
        "sure": student_t.paired([0.10, 0.11, 0.09, 0.10, 0.10]),
        "likely": student_t.paired([0.05, 0.02, 0.06, 0.03, 0.01]),
        "none": student_t.paired([0.05, -0.04, 0.01, -0.02, 0.01]),
    }
    intervals = student_t.holm(family)
    assert intervals["sure"] == pytest.approx(family["sure"].interval(1 - 0.05 / 3))
    assert intervals["likely"] == pytest.approx(family["likely"].interval(1 - 0.05 / 2))
    assert intervals["none"] == pytest.approx(family["none"].interval(0.95))
    assert intervals["sure"][0] > 0 > intervals["none"][0]


def test_holm_leaves_nothing_out_after_the_first_that_fails() -> None:
    # Alone, the second of these would be significant at 5 %; corrected, neither is.
    family = {name: student_t.paired([0.05, 0.02, 0.06, 0.01, 0.01]) for name in "abcd"}
    assert family["a"].interval()[0] > 0
    assert all(low < 0 < high for low, high in student_t.holm(family).values())


@pytest.fixture(scope="module")
def pools() -> dict[str, selector_pools.Pool]:
    return selector_pools.draw_pools(48, 32, seed=3)


def test_what_a_pool_has_too_many_of_is_there(pools: dict[str, selector_pools.Pool]) -> None:
    faulty = {
        name: sum(row.is_faulty for row in pool.rows) / len(pool.rows)
        for name, pool in pools.items()
    }
    for name in ("static", "duplicates", "told", "lengths"):
        assert faulty[name] == 0.5
    assert faulty["noise"] == pytest.approx(0.3, abs=0.02)
    still = [row.clip for row in pools["static"].rows if row.is_faulty and row.task == "order"]
    moving = [row.clip for row in pools["static"].rows if not row.is_faulty and row.task == "order"]
    changes = [
        [np.abs(np.diff(clip.frames_THWC.astype(int), axis=0)).max() for clip in own]
        for own in (still, moving)
    ]
    assert min(changes[1]) > 20  # a colour changes; a still one's ground may drift
    assert np.median(changes[0]) < np.median(changes[1])
    lengths = Counter(len(row.clip.frames_THWC) for row in pools["lengths"].rows)
    assert lengths == {12: 24, 24: 24}


def test_copies_show_what_their_clip_shows(pools: dict[str, selector_pools.Pool]) -> None:
    rows = {row.clip.name: row for row in pools["duplicates"].rows}
    copies = [row for row in rows.values() if row.is_faulty]
    assert len(rows) == 48
    assert len({copy.clip.name.rpartition("-copy")[0] for copy in copies}) == 4
    for copy in copies:
        original = rows[copy.clip.name.rpartition("-copy")[0]]
        assert copy.answer == original.answer
        ratio = copy.clip.frames_THWC.mean() / original.clip.frames_THWC.mean()
        assert 0.8 < ratio < 0.96


def test_a_wrong_answer_is_wrong_and_a_telling_question_tells_the_right_one(
    pools: dict[str, selector_pools.Pool],
) -> None:
    clean = {row.clip.name: row.answer for row in pools["told"].rows}
    for row in pools["noise"].rows:
        assert (row.answer != clean[row.clip.name]) == row.is_faulty
    for row in pools["told"].rows:
        assert (row.answer in row.words) == row.is_faulty


@pytest.mark.parametrize("name", selector_pools.DRAWN)
def test_held_out_clips_are_other_clips_and_balanced(
    pools: dict[str, selector_pools.Pool], name: str
) -> None:
    pool = pools[name]
    assert not {row.clip.name for row in pool.rows} & {row.clip.name for row in pool.heldout}
    assert set(Counter((row.task, row.answer) for row in pool.heldout).values()) == {4}
    assert all(row.answer not in row.words for row in pool.heldout)


def test_cutouts_have_the_answers_that_were_made() -> None:
    # Frame t has brightness t all over, but for a gradient from left to right and top to bottom.
    across_HW = np.add.outer(np.arange(88) / 4, np.arange(156) / 2)
    videos = {}
    for number in range(10):
        grey_THW = (np.arange(200)[:, None, None] / 2 + across_HW + number).astype(np.uint8)
        videos[f"v{number}"] = grey_THW[..., None].repeat(3, -1)
    pool = selector_cutouts.draw_cutouts(videos, 24, 12, seed=0)
    assert Counter(row.task for row in pool.rows) == {"direction": 8, "order": 8, "speed": 8}
    for row in pool.rows:
        seen_THWC = row.clip.frames_THWC.astype(float)
        if row.task == "speed":
            assert np.diff(seen_THWC.mean((1, 2, 3))).mean() == pytest.approx(int(row.answer) / 2)
        elif row.task == "order":
            tint_C = seen_THWC[0].mean((0, 1))
            assert {"red": tint_C[0], "green": tint_C[1], "blue": tint_C[2],
                    "yellow": tint_C[:2].min()}[row.answer] > tint_C.mean()  # fmt: skip
        else:
            way = seen_THWC[-1].mean() - seen_THWC[0].mean() - 23 / 2  # what time does is known
            assert (way > 0) == (row.answer in ("right", "down"))


def test_the_verdict_needs_three_pools_and_both_rivals() -> None:
    names = selector_figures.SELECTORS
    base = {
        (name, budget, pool): [0.5, 0.51, 0.49, 0.5, 0.5]
        for name in names
        for budget in (0.1, 0.25, 0.5)
        for pool in selector_pools.PLANTED
    }
    better = dict(base)
    for pool in selector_pools.PLANTED[:3]:
        better["coverage", 0.25, pool] = [0.8, 0.81, 0.8, 0.79, 0.8]
    # As good as `intra` is not better than it, though both beat `random`.
    for pool in selector_pools.PLANTED:
        for name in ("intra", "gdo_lite"):
            if pool != "noise":
                better[name, 0.25, pool] = [0.7, 0.71, 0.7, 0.69, 0.7]
    found = selector_figures.verdict(better, selector_pools.PLANTED)
    assert found["clearly_better"] == ["intra", "coverage"]
    assert found["better_in"]["gdo_lite"] == []
    judged = set(found["corrected_95"]["noise"])  # what is judged, and no more, is corrected for
    others = [name for name in selector_figures.SELECTORS if name != "random"]
    pairs = {(name, rival) for name in others for rival in selector_figures.RIVALS}
    assert judged == {f"{name} minus {rival}" for name, rival in pairs if name != rival}
    better["coverage", 0.25, "static"] = [0.5, 0.51, 0.49, 0.5, 0.5]
    found = selector_figures.verdict(better, selector_pools.PLANTED)
    assert "coverage" not in found["clearly_better"]


def test_ridge_learns_what_is_linear_and_answers_what_nobody_asked_with_the_first_option() -> None:
    from selector_learners import ridge
    from table7_train import Examples

    generator = torch.Generator().manual_seed(0)
    axes_AF = torch.randn(4, 2 * 3, generator=generator)

    def rows(count: int) -> Examples:
        seen_NF = torch.randn(count, 2 * 3, generator=generator)
        return Examples(
            sample_ids=tuple(map(str, range(count))),
            seen_N=seen_NF.view(count, 2, 3, 1, 1),
            question_N=torch.arange(count) % 2,
            answer_N=(seen_NF @ axes_AF.T).argmax(-1),
        )

    learned, asked = rows(400), rows(200)
    assert ridge(learned, asked) > 0.8
    first = learned.take([str(number) for number in range(0, 400, 2)])  # of question 0 alone
    half = asked.take([str(number) for number in range(1, 200, 2)])  # of question 1 alone
    assert ridge(first, half) == pytest.approx(float((half.answer_N == 0).float().mean()))


def test_words_that_tell_the_answer_are_found_by_counting_alone(tmp_path: Path) -> None:
    from selector_board import write_blind_scores

    pools = selector_pools.draw_pools(160, 8, seed=3)
    path = write_blind_scores({("told", 0): pools["told"]}, tmp_path / "blind.jsonl")
    scores = [json.loads(line)["score"] for line in path.read_text().splitlines()]
    faulty = [row.is_faulty for row in pools["told"].rows]
    told = [score for score, is_faulty in zip(scores, faulty, strict=True) if is_faulty]
    asked = [score for score, is_faulty in zip(scores, faulty, strict=True) if not is_faulty]
    assert np.mean(told) < 0.1
    assert np.mean(asked) == 1.0


def test_a_torn_result_is_trained_again_and_whole_ones_are_not(tmp_path: Path) -> None:
    from selector_board import KeptShares

    path = tmp_path / "right-0.jsonl"
    cell, other = ("intra", 0.25, "static"), ("random", 0.25, "static")
    kept = KeptShares(path)
    kept.add("ridge", cell, lambda: 0.5)
    kept.add("ridge", other, lambda: 0.4)
    path.write_text(path.read_text()[:-5])
    again = KeptShares(path)
    again.add("ridge", cell, lambda: 0.1)
    again.add("ridge", other, lambda: 0.3)
    assert again.right["ridge"] == {cell: 0.5, other: 0.3}
    assert KeptShares(path).right == again.right
