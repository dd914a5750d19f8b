"""Shard plans: every clip in one shard, near-equal bytes and cost, whatever the order."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.shard_planning import ClipCosts, PlannedShard, decode_cost, plan_shards

LIMITS = {"shard_bytes": 1000, "max_clips": 100, "divisor": 1, "salt": ""}


def clips(*weights: tuple[int, float], kind: str = "video") -> ClipCosts:
    """Clips a, b, c, ... of (bytes, decode cost)."""
    return ClipCosts(
        key=[chr(ord("a") + i) for i in range(len(weights))],
        kind=[kind] * len(weights),
        num_bytes=np.array([num_bytes for num_bytes, _ in weights], dtype=np.int64),
        decode_cost=np.array([cost for _, cost in weights], dtype=np.float64),
    )


def keys_of(costs: ClipCosts, shards: list[PlannedShard]) -> list[str]:
    return ["".join(costs.key[i] for i in shard.members) for shard in shards]


@st.composite
def any_clips(draw: st.DrawFn) -> ClipCosts:
    weight = st.tuples(
        st.sampled_from(["image", "text", "video"]),
        st.one_of(st.integers(0, 10**4), st.just(10**9)),
        st.one_of(st.floats(0, 10**4), st.just(0.0)),
    )
    weights = draw(st.lists(weight, min_size=1, max_size=60))
    return ClipCosts(
        key=[f"{index:03d}" for index in draw(st.permutations(range(len(weights))))],
        kind=[kind for kind, _, _ in weights],
        num_bytes=np.array([num_bytes for _, num_bytes, _ in weights], dtype=np.int64),
        decode_cost=np.array([cost for _, _, cost in weights], dtype=np.float64),
    )


any_limits = st.fixed_dictionaries(
    {
        "shard_bytes": st.sampled_from([1, 100, 5000, 10**10]),
        "max_clips": st.integers(1, 70),
        "divisor": st.integers(1, 70),
        "salt": st.sampled_from(["", "x"]),
    }
)


@settings(deadline=None)
@given(costs=any_clips(), limits=any_limits)
def test_every_clip_is_in_one_shard_of_its_kind_and_no_shard_is_empty(costs, limits):
    shards = plan_shards(costs, **limits)
    assert Counter(i for shard in shards for i in shard.members) == Counter(range(len(costs.key)))
    for shard in shards:
        assert {costs.kind[i] for i in shard.members} == {shard.kind}
        keys = [costs.key[i] for i in shard.members]
        assert keys == sorted(keys)
    assert len({shard.name for shard in shards}) == len(shards)


@settings(deadline=None)
@given(costs=any_clips(), limits=any_limits)
def test_the_number_of_shards_divides_and_keeps_to_the_limits_where_clips_suffice(costs, limits):
    shards = plan_shards(costs, **limits)
    for kind, number in Counter(shard.kind for shard in shards).items():
        own = [i for i, own_kind in enumerate(costs.kind) if own_kind == kind]
        num_bytes = int(costs.num_bytes[own].sum())
        least = max(1, -(-num_bytes // limits["shard_bytes"]), -(-len(own) // limits["max_clips"]))
        wanted = -(-least // limits["divisor"]) * limits["divisor"]
        assert number % limits["divisor"] == 0 or number == len(own) < limits["divisor"]
        if wanted <= len(own):
            assert number == wanted
            most = max(len(shard.members) for shard in shards if shard.kind == kind)
            assert most <= limits["max_clips"]
        else:
            assert number > len(own) - limits["divisor"]


@settings(deadline=None)
@given(costs=any_clips(), limits=any_limits, order=st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_clips(costs, limits, order):
    indices = list(range(len(costs.key)))
    order.shuffle(indices)
    shuffled = ClipCosts(
        key=[costs.key[i] for i in indices],
        kind=[costs.kind[i] for i in indices],
        num_bytes=costs.num_bytes[indices],
        decode_cost=costs.decode_cost[indices],
    )

    def named(of: ClipCosts) -> list[tuple[str, list[str]]]:
        return [
            (shard.name, [of.key[i] for i in shard.members]) for shard in plan_shards(of, **limits)
        ]

    assert named(costs) == named(shuffled)


@pytest.mark.parametrize("correlation", [-0.7, 0.0, 0.7])
def test_bytes_and_decode_cost_are_within_one_percent_of_their_means(correlation):
    rng = np.random.default_rng(1)
    first_N, second_N = rng.normal(size=(2, 2000))
    second_N = correlation * first_N + math.sqrt(1 - correlation**2) * second_N
    costs = ClipCosts(
        key=[f"{i:06d}" for i in range(2000)],
        kind=["video"] * 2000,
        num_bytes=np.exp(0.8 * first_N + 14).astype(np.int64),  # from 80 kB to 20 MB
        decode_cost=np.exp(0.8 * second_N),
    )
    limits = {"shard_bytes": 10**10, "max_clips": 1000, "divisor": 32, "salt": ""}
    shards = plan_shards(costs, **limits)
    assert len(shards) == 32
    for value_N in (costs.num_bytes.astype(np.float64), costs.decode_cost):
        load_S = np.array([value_N[shard.members].sum() for shard in shards])
        assert abs(load_S / load_S.mean() - 1).max() < 0.01


def test_what_is_heavy_in_bytes_is_put_to_what_is_heavy_to_decode():
    costs = clips((900, 1.0), (900, 1.0), (100, 9.0), (100, 9.0))
    assert keys_of(costs, plan_shards(costs, **LIMITS)) == ["ac", "bd"]


def test_one_larger_clip_has_a_shard_for_itself():
    costs = clips((5000, 50.0), (400, 4.0), (300, 3.0), (300, 3.0))
    shards = plan_shards(costs, **(LIMITS | {"divisor": 2, "shard_bytes": 3000}))
    assert keys_of(costs, shards) == ["a", "bcd"]


def test_a_shard_has_at_most_max_clips_however_light():
    costs = clips((10_000, 100.0), *[(1, 0.01)] * 5)
    shards = plan_shards(costs, **(LIMITS | {"shard_bytes": 10**6, "max_clips": 3}))
    assert sorted(map(len, keys_of(costs, shards))) == [3, 3]


def test_names_tell_kind_place_and_content():
    costs = clips((1, 1.0), (1, 1.0))
    (one,) = plan_shards(costs, **LIMITS)
    kind, index, digest = one.name.removesuffix(".tar").split("-")
    assert (kind, index, len(digest)) == ("video", "00000", 12)
    (other,) = plan_shards(costs, **(LIMITS | {"salt": "other settings"}))
    assert other.name != one.name


@pytest.mark.parametrize("name", ["shard_bytes", "max_clips", "divisor"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        plan_shards(clips((1, 1.0)), **(LIMITS | {name: 0}))


def test_doubled_keys_and_ragged_columns_are_refused():
    with pytest.raises(ValueError, match="unique"):
        ClipCosts(key=["a", "a"], kind=["v", "v"], num_bytes=np.ones(2), decode_cost=np.ones(2))
    with pytest.raises(ValueError, match="one length"):
        ClipCosts(key=["a"], kind=["v", "v"], num_bytes=np.ones(1), decode_cost=np.ones(1))


def test_decode_cost_is_in_megapixels():
    assert decode_cost(width_px=1000, height_px=500, num_frames=10) == 5.0
