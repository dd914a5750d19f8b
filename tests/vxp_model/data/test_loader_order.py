"""The order of samples: every one once, shares exact, cut again from any position."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_model.data.order import (
    BatchRule,
    EpochOrder,
    OrderRule,
    Part,
    cut_batches,
    epoch_order,
    part_counts,
)


def part(num_samples, *, weight=None, digest="a", seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 361, num_samples).astype(np.int32)
    return Part(digest=digest, num_frames_N=frames, weight=weight)


def pairs(order):
    return list(zip(order.part_E.tolist(), order.sample_E.tolist(), strict=True))


RULES = st.builds(
    lambda seed, shuffle, run, windows: OrderRule(
        seed=seed, shuffle=shuffle, length_run=run, length_window=run * windows
    ),
    st.integers(0, 9),
    st.booleans(),
    st.integers(1, 9),
    st.integers(0, 4),
)


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4), rule=RULES, epoch=st.integers(0, 5)
)
def test_without_weights_an_epoch_has_every_sample_once(sizes, rule, epoch):
    order = epoch_order([part(n, digest=str(n)) for n in sizes], rule, epoch)
    assert sorted(pairs(order)) == [(p, i) for p, n in enumerate(sizes) for i in range(n)]


def test_an_order_whose_columns_differ_in_length_is_refused():
    one, two = np.zeros(1, np.int32), np.zeros(2, np.int32)
    with pytest.raises(ValueError, match=r"differ in length: \(2, 2, 1\)"):
        EpochOrder(part_E=two, sample_E=two.astype(np.int64), num_frames_E=one)


def test_frame_counts_go_with_their_samples():
    parts = [part(50), part(30, seed=1)]
    order = epoch_order(parts, OrderRule(length_window=16, length_run=4), 0)
    wanted = [parts[p].num_frames_N[i] for p, i in pairs(order)]
    assert order.num_frames_E.tolist() == wanted


def test_epochs_seeds_and_indexes_have_orders_of_their_own():
    def first(seed=0, epoch=0, digest="a"):
        return pairs(epoch_order([part(1000, digest=digest)], OrderRule(seed=seed), epoch))

    assert first() == first()
    others = [first(seed=1), first(epoch=1), first(digest="b")]
    for other in others:
        assert sum(a == b for a, b in zip(first(), other, strict=True)) < 20


GOLDEN = [
    (0, 2),
    (1, 2),
    (0, 7),
    (0, 1),
    (0, 6),
    (1, 3),
    (0, 4),
    (1, 1),
    (0, 5),
    (0, 0),
    (0, 3),
    (1, 0),
]
"""A change here makes every saved state of a loader stand elsewhere."""


def test_the_order_is_the_same_on_every_machine_and_version():
    order = epoch_order([part(8), part(4, digest="b")], OrderRule(seed=7), 3)
    assert pairs(order) == GOLDEN


@pytest.mark.parametrize(
    ("sizes", "weights", "epoch_samples", "counts"),
    [
        ([10, 30], [None, None], None, [10, 30]),
        ([10, 30], [1, 3], None, [10, 30]),  # ReCoT's mix, by sample
        ([10, 31], [1, 3], None, [11, 31]),  # 42 samples; a half each: the earlier part
        ([10, 300], [1, 3], None, [100, 300]),  # every image ten times, every video once
        ([100, 30], [1, 3], None, [100, 300]),
        ([10, 30], [1, 3], 1000, [250, 750]),
        ([10, 30], [0.1, 0.3], 4, [1, 3]),  # as decimals: binary fractions are not 1 to 3
        ([10, 10, 10], [1, 1, 1], 10, [4, 3, 3]),
        ([7, 3], [None, None], 20, [14, 6]),
    ],
)
def test_shares_are_exact_and_only_what_weights_demand_is_repeated(
    sizes, weights, epoch_samples, counts
):
    assert part_counts(sizes, weights, epoch_samples) == counts


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    epoch_samples=st.none() | st.integers(1, 300),
)
def test_shares_are_within_one_sample_of_the_weights(sizes, weights, epoch_samples):
    weights = weights[: len(sizes)]
    counts = part_counts(sizes, weights, epoch_samples)
    total = sum(counts)
    assert total == (epoch_samples or total)
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1 + 1e-6
    if epoch_samples is None:
        assert all(count >= size for count, size in zip(counts, sizes, strict=True))


@settings(deadline=None)
@given(
    size=st.integers(1, 40),
    epoch_samples=st.integers(1, 100),
    shuffle=st.booleans(),
)
def test_nothing_comes_again_before_all_have_come(size, epoch_samples, shuffle):
    rule = OrderRule(epoch_samples=epoch_samples, shuffle=shuffle)
    seen = np.zeros(size, dtype=int)
    for epoch in range(6):
        of_epoch = np.bincount(epoch_order([part(size)], rule, epoch).sample_E, minlength=size)
        assert of_epoch.max() - of_epoch.min() <= 1
        seen += of_epoch
        assert seen.max() - seen.min() <= 1


def test_every_stretch_of_a_mixture_has_its_share():
    parts = [part(500, weight=1), part(1500, weight=3, digest="b")]
    is_image_E = epoch_order(parts, OrderRule(), 0).part_E == 0
    count = np.concatenate([[0], np.cumsum(is_image_E)])
    for length in (4, 8, 64, 1000):
        of_stretch = count[length:] - count[:-length]
        assert np.abs(of_stretch - length / 4).max() <= 2


def test_length_grouping_puts_like_lengths_together_and_keeps_the_windows_samples():
    parts = [part(4096)]
    plain = epoch_order(parts, OrderRule(), 0)
    grouped = epoch_order(parts, OrderRule(length_window=1024, length_run=16), 0)
    for window in range(4):
        own = slice(window * 1024, (window + 1) * 1024)
        assert sorted(plain.sample_E[own]) == sorted(grouped.sample_E[own])

    def mean_spread(order):
        runs = order.num_frames_E.reshape(-1, 16)
        return (runs.max(axis=1) - runs.min(axis=1)).mean()

    assert mean_spread(grouped) < 0.03 * mean_spread(plain)
    means = grouped.num_frames_E[:1024].reshape(-1, 16).mean(axis=1)
    assert (np.diff(means) < 0).sum() > 20  # runs are shuffled, not ascending


def test_a_short_last_run_does_not_put_the_others_askew():
    """Each step of a run's length has samples of one run, so that ranks have like work."""
    for epoch in range(5):
        order = epoch_order([part(1000)], OrderRule(length_window=1024, length_run=64), epoch)
        runs = np.sort(order.num_frames_E)[: 15 * 64].reshape(15, 64)
        wanted = {tuple(run) for run in runs.tolist()}
        assert {
            tuple(run) for run in order.num_frames_E[: 15 * 64].reshape(15, 64).tolist()
        } == wanted


@settings(deadline=None)
@given(
    frames=st.lists(st.integers(0, 20), max_size=60),
    max_samples=st.integers(1, 8),
    max_frames=st.none() | st.integers(1, 40),
)
def test_batches_fill_their_limits_and_cover_all(frames, max_samples, max_frames):
    frames = np.array(frames, dtype=np.int32)
    rule = BatchRule(max_samples=max_samples, max_frames=max_frames)
    bounds = cut_batches(frames, rule)
    assert bounds[0] == 0
    assert bounds[-1] == len(frames)
    limit = max_frames or frames.sum() + 1
    for first, end in itertools.pairwise(bounds):
        size = end - first
        assert 1 <= size <= max_samples
        assert size == 1 or frames[first:end].sum() <= limit
        if end < len(frames) and size < max_samples:  # one more would not have fitted
            assert frames[first : end + 1].sum() > limit
    for start in bounds:
        again = cut_batches(frames, rule, start=int(start))
        assert again.tolist() == [bound for bound in bounds if bound >= start]


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"length_window": 100, "length_run": 64}, r"multiple of length_run \(64\), got 100"),
        ({"epoch_samples": 0}, "epoch_samples must be 1 or more, got 0"),
    ],
)
def test_a_bad_rule_is_refused(settings_, message):
    with pytest.raises(ValueError, match=message):
        OrderRule(**settings_)


@pytest.mark.parametrize("weights", [[1, None], [1, 0], [1, float("nan")], [1, float("inf")]])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weight"):
        part_counts([3, 3], weights, None)
