"""Threshold policies: texts, exact counts, ties, and the direction of a measure."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.similarity import EFFECTIVE_FRAMES, MEAN_PAIRWISE
from vxp_data.core.thresholds import (
    ThresholdSpec,
    check_range,
    count,
    cut,
    fixed,
    parse_keep,
    parse_threshold,
    quantile,
    share,
)
from vxp_data.errors import UserError
from vxp_data.registry import THRESHOLDS

VALUES = {
    "quantile": [0.0, 0.3, 1.0],
    "share": [0.01, 0.3, 1.0],
    "count": [0, 1, 3, 100],
    "knee": [0.0],
    "mixture": [0.0],
}
CONFORMANCE = [
    (name, value) for name in THRESHOLDS.names() for value in VALUES.get(name, [0.0, 0.5, 1.0])
]

few_values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])  # so that ties are common
scores = st.lists(few_values | st.floats(-1, 1, allow_subnormal=False), max_size=30)


def ids(number):
    """Unique names whose order is not the input order."""
    return [f"s{(7 * row) % 31:02d}" for row in range(number)]


def kept_ids(done, names):
    return [name for name, keep in zip(names, done.keep_N, strict=True) if keep]


@pytest.mark.parametrize(
    ("parse", "text", "policy", "value", "canonical"),
    [
        (parse_threshold, "0.80", "fixed", 0.8, "0.8"),
        (parse_threshold, " 5 ", "fixed", 5.0, "5.0"),
        (parse_threshold, "-.5e0", "fixed", -0.5, "-0.5"),
        (parse_threshold, "q0.50", "quantile", 0.5, "q0.5"),
        (parse_threshold, "q1", "quantile", 1.0, "q1.0"),
        (parse_threshold, " knee ", "knee", 0.0, "knee"),
        (parse_keep, "0.5", "share", 0.5, "50%"),
        (parse_keep, "7%", "share", 0.07, "7%"),
        (parse_keep, "1.0", "share", 1.0, "100%"),
        (parse_keep, "0.00001", "share", 1e-5, "0.001%"),
        (parse_keep, "1", "count", 1.0, "1"),
        (parse_keep, "0", "count", 0.0, "0"),
        (parse_keep, "1000", "count", 1000.0, "1000"),
    ],
)
def test_text_is_read_and_its_canonical_text_reads_the_same(parse, text, policy, value, canonical):
    spec = parse(text)
    assert (spec, str(spec)) == (ThresholdSpec(policy, value), canonical)
    assert parse(canonical) == spec


@settings(deadline=None)
@given(value=st.floats(0, 1, exclude_min=True))
def test_canonical_text_of_any_share_and_quantile_reads_the_same(value):
    for policy, parse in (("share", parse_keep), ("quantile", parse_threshold)):
        spec = ThresholdSpec(policy, value)
        assert parse(str(spec)) == spec


@settings(deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_canonical_text_of_any_fixed_value_reads_the_same(value):
    spec = ThresholdSpec("fixed", value)
    assert parse_threshold(str(spec)) == spec


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (
            parse_threshold,
            "50%",
            r"got '50%', wanted a score such as '0.80', a quantile .*`keep`",
        ),
        (parse_threshold, "", "got '', wanted a score"),
        (parse_threshold, "nan", "got 'nan', wanted a score"),
        (parse_threshold, "1_0", "got '1_0', wanted a score"),
        (parse_threshold, "0,8", "got '0,8', wanted a score"),
        (parse_threshold, "1e999", "got inf, wanted a finite number"),
        (parse_threshold, "q1.5", r"'q1.5': .* got 1.5, wanted a quantile in \[0, 1\]"),
        (parse_threshold, "q", "got 'q', wanted a score"),
        (parse_keep, "half", "got 'half', wanted a share such as '0.5' or '50%', a number of rows"),
        (parse_keep, "1.5", r"'1.5': .* got 1.5, wanted a share in \(0, 1\]"),
        (parse_keep, "0%", r"got 0.0, wanted a share in \(0, 1\]"),
        (parse_keep, "-3", r"got -3.0, wanted a share in \(0, 1\]"),
        (parse_keep, "150%", r"got 1.5, wanted a share in \(0, 1\]"),
        (parse_keep, "%", "got '%', wanted a share"),
        (parse_keep, "9" * 400, "got inf, wanted a whole number of rows"),
        (parse_keep, "1e99999999999", r"got inf, wanted a share"),
    ],
)
def test_text_that_cannot_be_meant_is_refused_with_got_and_wanted(parse, text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_a_policy_or_value_that_cannot_be_is_refused_at_birth():
    with pytest.raises(UserError, match=r"unknown threshold policy 'fixd'\. Did you mean 'fixed'"):
        ThresholdSpec("fixd", 0.5)
    with pytest.raises(UserError, match=r"count: got 2.5, wanted a whole number of rows"):
        ThresholdSpec("count", 2.5)
    with pytest.raises(UserError, match="fixed: got nan, wanted a finite number"):
        ThresholdSpec("fixed", math.nan)


def test_policies_cut_where_one_can_check_by_eye():
    redundancy_N, names = np.array([0.9, 0.1, 0.5, 0.5, 0.3]), ["e", "a", "d", "c", "b"]
    cuts = {
        "fixed": fixed(redundancy_N, names, 0.5),
        "quantile": quantile(redundancy_N, names, 0.375),  # half way from 0.3 to 0.5
        "share": share(redundancy_N, names, 0.5),  # floor(2.5 + 0.5) = 3 rows
        "count": count(redundancy_N, names, 3),
        "none": count(redundancy_N, names, 0),
    }
    assert {k: (c.threshold, kept_ids(c, names)) for k, c in cuts.items()} == {
        "fixed": (0.5, ["a", "d", "c", "b"]),
        "quantile": (pytest.approx(0.4), ["a", "b"]),
        "share": (0.5, ["a", "c", "b"]),  # c and d are tied: c has the smaller name
        "count": (0.5, ["a", "c", "b"]),
        "none": (-math.inf, []),
    }


@settings(deadline=None)
@given(values=scores, wanted=st.integers(0, 35))
def test_count_is_met_exactly_with_the_rows_first_by_redundancy_then_id(values, wanted):
    names = ids(len(values))
    done = count(np.array(values, dtype=np.float64), names, wanted)
    order = sorted(range(len(values)), key=lambda row: (values[row], names[row]))[:wanted]
    assert np.flatnonzero(done.keep_N).tolist() == sorted(order)
    assert done.threshold == values[order[-1]] if order else not math.isfinite(done.threshold)


@settings(deadline=None)
@given(values=scores, wanted=st.floats(0, 1, exclude_min=True))
def test_share_keeps_the_nearest_whole_number_of_rows(values, wanted):
    done = share(np.array(values, dtype=np.float64), ids(len(values)), wanted)
    assert done.keep_N.sum() == math.floor(wanted * len(values) + 0.5)


@settings(deadline=None)
@given(values=scores.filter(len), wanted=st.floats(0, 1))
def test_quantile_keeps_at_least_its_share_and_no_row_above_it(values, wanted):
    redundancy_N = np.array(values)
    done = quantile(redundancy_N, ids(len(values)), wanted)
    assert done.keep_N.tolist() == (redundancy_N <= np.quantile(redundancy_N, wanted)).tolist()
    assert done.keep_N.sum() >= math.floor(wanted * (len(values) - 1)) + 1 - 1e-9


@settings(deadline=None)
@given(
    values=scores,
    policy=st.sampled_from([fixed, quantile, share]),
    pair=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_larger_value_never_drops_a_row_that_a_smaller_one_keeps(values, policy, pair):
    redundancy_N, names = np.array(values, dtype=np.float64), ids(len(values))
    small, large = (policy(redundancy_N, names, value) for value in sorted(pair))
    assert not (small.keep_N & ~large.keep_N).any()


@settings(deadline=None)
@given(values=scores, small=st.integers(0, 35), more=st.integers(0, 5))
def test_a_larger_count_never_drops_a_row_that_a_smaller_one_keeps(values, small, more):
    redundancy_N, names = np.array(values, dtype=np.float64), ids(len(values))
    kept_N = count(redundancy_N, names, small).keep_N
    assert not (kept_N & ~count(redundancy_N, names, small + more).keep_N).any()


# A new registry line needs no new test below.
@pytest.mark.parametrize(("name", "value"), CONFORMANCE)
def test_every_policy_keeps_the_low_end_whatever_the_input_order(name, value):
    policy = THRESHOLDS.load(name)
    rng = np.random.default_rng(1)
    redundancy_N, names = rng.integers(0, 9, size=31) / 8, ids(31)
    done = policy(redundancy_N, names, value)
    assert done.keep_N.dtype == np.bool_
    assert (redundancy_N[done.keep_N] <= done.threshold).all()
    assert (redundancy_N[~done.keep_N] >= done.threshold).all()
    order = rng.permutation(31)
    moved = policy(redundancy_N[order], [names[row] for row in order], value)
    assert moved.keep_N.tolist() == done.keep_N[order].tolist()
    assert moved.threshold == done.threshold


@pytest.mark.parametrize(("name", "value"), CONFORMANCE)
def test_every_policy_has_nothing_to_cut_in_an_empty_subset(name, value):
    done = THRESHOLDS.load(name)(np.array([]), [], value)
    assert (math.isnan(done.threshold), done.keep_N.tolist()) == (True, [])


@pytest.mark.parametrize(
    ("spec", "high_kept", "high_at", "low_kept", "low_at"),
    [
        (ThresholdSpec("fixed", 1.0), ["a", "b"], 1.0, ["a", "b", "c", "d"], 1.0),
        (ThresholdSpec("quantile", 0.5), ["a", "b"], 1.5, ["c", "d"], 3.5),
        (ThresholdSpec("share", 0.25), ["a"], 0.5, ["d"], 6.0),
        (ThresholdSpec("count", 0), [], -math.inf, [], math.inf),
    ],
)
def test_cut_speaks_the_measures_own_units(spec, high_kept, high_at, low_kept, low_at):
    names = ["a", "b", "c", "d"]
    high = cut(spec, np.array([0.5, 1.0, 2.0, 3.0]), names, MEAN_PAIRWISE)
    assert (kept_ids(high, names), high.threshold) == (high_kept, high_at)
    low = cut(spec, np.array([1.0, 2.0, 5.0, 6.0]), names, EFFECTIVE_FRAMES)
    assert (kept_ids(low, names), low.threshold) == (low_kept, low_at)


def test_five_effective_frames_keeps_five_and_more():
    names = ["a", "b", "c"]
    done = cut(parse_threshold("5.0"), np.array([4.999, 5.0, 9.0]), names, EFFECTIVE_FRAMES)
    assert (kept_ids(done, names), done.threshold) == (["b", "c"], 5.0)


def test_a_fixed_value_outside_the_measures_range_is_refused():
    with pytest.raises(UserError, match=r"got 80, but mean_pairwise lies in \[-1, 1\]"):
        cut(parse_threshold("80"), np.array([0.5]), ["a"], MEAN_PAIRWISE)
    with pytest.raises(UserError, match=r"got 0.8, but effective_frames lies in \[1, inf\]"):
        check_range(parse_threshold("0.8"), EFFECTIVE_FRAMES)
    check_range(parse_keep("1000"), MEAN_PAIRWISE)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_named(bad):
    with pytest.raises(ValueError, match=f"score of sample 'b' is {bad}"):
        cut(parse_keep("1"), np.array([0.5, bad]), ["a", "b"], MEAN_PAIRWISE)


def test_scores_and_names_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 scores and 1 sample ids"):
        cut(parse_keep("1"), np.array([0.5, 0.6]), ["a"], MEAN_PAIRWISE)


def test_any_policy_can_be_named_with_its_number():
    assert parse_threshold("share:0.25") == ThresholdSpec("share", 0.25)
    assert parse_threshold("fixed:-1e-1") == ThresholdSpec("fixed", -0.1)
    with pytest.raises(UserError, match=r"unknown threshold policy 'shar'. Did you mean 'share'"):
        parse_threshold("shar:0.25")
    with pytest.raises(UserError, match="got 'share:half', wanted a score"):
        parse_threshold("share:half")
