"""Intervals and tests, against exact enumerations, published values and brute force."""

from __future__ import annotations

import itertools
import math
import random
import time
from fractions import Fraction

import numpy as np
import pytest

from vxp_model.eval.benchmarks.base import COMBINE, Figure, Unit
from vxp_model.eval.statistics import (
    BOOTSTRAP,
    NONE,
    WILSON,
    bootstrap,
    difference,
    interval,
    mcnemar_exact,
    standard_error,
    wilson,
)


def units(*values: float, videos: str = "", num_questions: int = 1) -> list[Unit]:
    names = videos or "".join(chr(97 + at) for at in range(len(values)))
    return [
        Unit(value=value, video=video, num_questions=num_questions)
        for value, video in zip(values, names, strict=True)
    ]


# Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.
@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(right, asked, low, high):
    assert wilson(right, asked) == pytest.approx((low, high), abs=5e-5)


def test_wilsons_limits_are_where_the_share_lies_just_so_far_from_them():
    for right, asked in itertools.product(range(8), (7, 50, 2174)):
        for limit in wilson(right, asked):
            z2 = (right / asked - limit) ** 2
            spread = 1.959963984540054**2 * limit * (1 - limit) / asked
            assert z2 == pytest.approx(spread, abs=1e-15)


def test_a_share_of_all_or_none_has_a_limit_that_is_itself():
    assert wilson(0, 3)[0] == 0.0
    assert wilson(3, 3)[1] == 1.0


def test_a_plain_share_has_wilsons_interval_and_the_rest_a_bootstrap():
    share = Figure.of("accuracy", units(1, 0, 1, 1))
    assert interval(share) == (*wilson(3, 4), WILSON)
    for other in (
        Figure.of("mIoU", units(1, 0.5, 0, 1)),
        Figure.of("samples", units(1, 0, 1, 1, num_questions=4)),
        Figure(name="M-Avg", parts=(tuple(units(1, 0)), tuple(units(1, 1)))),
        Figure(name="LGM", parts=(tuple(units(1, 0, 0)),), combine="log_gap"),
    ):
        assert interval(other).how == BOOTSTRAP


@pytest.mark.parametrize("figure", [Figure.of("x", []), Figure(name="x", parts=())])
def test_nothing_has_no_interval(figure):
    found = interval(figure)
    assert found.how == NONE
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_answers_that_are_all_worth_the_same_are_no_certainty(value):
    parts = (tuple(units(value, value)), tuple(units(value, value)))
    assert interval(Figure(name="M-Avg", parts=parts)).how == NONE


def test_a_rating_is_no_share_though_all_of_them_are_0_or_1():
    rating = Figure.of("rating", units(0, 1, 1), best=10)
    assert not rating.is_share
    assert interval(rating).how == BOOTSTRAP
    assert Figure.of("share", units(0, 1, 1)).is_share
    assert not Figure.of("no share", units(0, 3)).is_share


def test_one_video_says_nothing_of_others():
    figure = Figure.of("mIoU", units(0.2, 0.4, videos="aa"))
    assert interval(figure).how == NONE
    assert math.isnan(standard_error(figure))


def test_the_bootstrap_has_the_distribution_of_all_draws():
    """Of three videos there are 27 draws: each counted, beside 40,000 at random."""
    parts = (tuple(units(1, 0, 0.5, 0.2, videos="aabc")), tuple(units(0.3, 0.9, videos="bc")))
    figure = Figure(name="x", parts=parts)
    exact = []
    for drawn in itertools.product("abc", repeat=3):
        shares = []
        for part in parts:
            own = [unit.value for video in drawn for unit in part if unit.video == video]
            if own:
                shares.append(sum(own) / len(own))
        exact.append(COMBINE["mean"](shares))
    value_R = bootstrap(figure, num_resamples=40_000)
    assert value_R.mean() == pytest.approx(np.mean(exact), abs=0.005)
    for value in set(np.round(exact, 9)):
        share = np.isclose(exact, value).mean()
        assert np.isclose(value_R, value).mean() == pytest.approx(share, abs=0.01)


def test_one_question_a_video_gives_the_spread_that_theory_does():
    rng = random.Random(1)
    values = [rng.random() for _ in range(400)]
    figure = Figure.of("x", [Unit(value=value, video=str(at)) for at, value in enumerate(values)])
    assert standard_error(figure) == pytest.approx(np.std(values) / 20, rel=0.05)
    low, high, _ = interval(figure)
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(values) / 20, rel=0.07)


def test_copies_of_a_question_do_not_make_it_surer():
    once = [Unit(value=float(at % 3 == 0), video=str(at)) for at in range(60)]
    twice = Figure(name="x", parts=(tuple(once * 9),), combine="mean")
    assert standard_error(twice) == pytest.approx(standard_error(Figure.of("x", once)))


def test_the_interval_is_the_same_whatever_the_order():
    own = units(*(at**2 % 17 / 17 for at in range(40)), videos="abcdefghij" * 4)
    assert interval(Figure.of("x", own)) == interval(Figure.of("x", own[::-1]))
    assert interval(Figure.of("x", own)) != interval(Figure.of("x", own), seed=1)


def test_an_infinite_value_is_a_limit_and_not_nothing():
    figure = Figure(name="LGM", parts=(tuple(units(1, 1, 1, 0.5)),), combine="log_gap")
    low, high, how = interval(figure)
    assert how == BOOTSTRAP
    assert 0 < low < math.inf
    assert high == math.inf


def test_a_part_of_which_nothing_is_drawn_does_not_count():
    figure = Figure(name="x", parts=(tuple(units(1, videos="a")), tuple(units(0, videos="b"))))
    assert set(np.round(bootstrap(figure), 9)) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("only_a", range(7))
@pytest.mark.parametrize("only_b", range(7))
def test_mcnemar_counts_every_way_the_coins_may_fall(only_a, only_b):
    num, least = only_a + only_b, min(only_a, only_b)
    falls = [sum(fall) for fall in itertools.product((0, 1), repeat=num)]
    extreme = sum(heads <= least or heads >= num - least for heads in falls)
    exact = Fraction(extreme, len(falls)) if only_a != only_b else Fraction(1)
    assert mcnemar_exact(only_a, only_b) == pytest.approx(float(exact), abs=1e-15)


def test_mcnemar_is_the_published_value():
    """Agresti's approval ratings (Categorical data analysis, 1990, p. 350), as exact2x2 has it."""
    assert mcnemar_exact(86, 150) == pytest.approx(3.716e-05, abs=5e-9)
    assert mcnemar_exact(0, 0) == 1.0


def test_many_questions_take_no_long_time():
    rng = random.Random(0)
    own = [Unit(value=rng.random(), video=f"v{rng.randrange(410)}") for _ in range(7540)]
    figure = Figure(name="x", parts=(tuple(own[:2000]), tuple(own[2000:])), combine="log_gap")
    began_s = time.perf_counter()
    interval(figure)
    assert time.perf_counter() - began_s < 2  # 0.05 s on a free core


def test_a_difference_is_paired_by_video():
    """Both are better on some videos: what they share does not widen the interval."""
    rng = random.Random(0)
    before = [Unit(value=rng.random(), video=str(at)) for at in range(200)]
    after = [Unit(value=unit.value + 0.01, video=unit.video) for unit in before]
    low, high, how = difference(Figure.of("x", before), Figure.of("x", after))
    assert how == BOOTSTRAP
    assert (low, high) == pytest.approx((0.01, 0.01))


def test_a_difference_holds_the_truth_as_often_as_it_says():
    rng = random.Random(3)
    held = 0
    for _ in range(150):
        before, after = [], []
        for video in range(60):
            ease = rng.random()
            for _ in range(3):
                before.append(Unit(value=float(rng.random() < ease), video=str(video)))
                after.append(Unit(value=float(rng.random() < ease), video=str(video)))
        pair = (Figure.of("x", before), Figure.of("x", after))
        low, high, _ = difference(*pair, num_resamples=400)
        held += low <= 0 <= high
    assert 0.88 <= held / 150 <= 0.99
