"""Variable-fps plans: by eye, by brute force over whole numbers of ticks, and over the registry."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from vxp_data.core.sampling_plans import (
    SamplingPlan,
    SamplingRule,
    draw_plan,
    image_plan,
    num_moments,
)
from vxp_data.core.seeds import choose, hash64
from vxp_data.errors import UserError
from vxp_data.registry import SAMPLING_POLICIES


def constant(num_frames: int, fps: float) -> tuple[np.ndarray, float]:
    """Times and duration of a constant-rate video."""
    return np.arange(num_frames) / fps, num_frames / fps


def plan_of(rule: SamplingRule, time_s_N, duration_s, sample_id="a", epoch=0, **clip):
    return draw_plan(
        rule,
        sample_id=sample_id,
        epoch=epoch,
        time_s_N=np.asarray(time_s_N, dtype=np.float64),
        duration_s=duration_s,
        source_fps=len(time_s_N) / duration_s if duration_s else 0.0,
        **clip,
    )


def at_rate(fps: float, **more) -> SamplingRule:
    return SamplingRule(**{"policy": "fixed_fps", "fps": fps, "max_fps": 60.0, **more})


# Times in whole milliseconds, so that the truth below needs no float. Gaps of 0 are damage.
videos = st.tuples(
    st.lists(st.sampled_from([0, 1, 16, 17, 33, 34, 40, 100, 250, 1000, 7000]), max_size=150),
    st.sampled_from([0, 1, 33, 40, 1000]),
).map(
    lambda video: (np.cumsum([0, *video[0]]).tolist(), sum(video[0]) + video[1])
)  # time_ms_N, duration_ms
rates = st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(2), Fraction(3), Fraction(4), 30])
clips = st.one_of(
    st.just((0, None)),
    st.tuples(st.integers(0, 9000), st.integers(1, 9000)).map(lambda c: (c[0], c[0] + c[1])),
)


def shown_in(time_ms_N, duration_ms, start_ms, end_ms):
    """Brute force: the frames on screen at some moment of a part; frame by frame, moment by moment.

    Of frames with one time only the last is on screen; the others go with it.
    """
    until_N = [*time_ms_N[1:], max(duration_ms, time_ms_N[-1] + 1)]
    shown = [
        time_ms
        for time_ms, until_ms in zip(time_ms_N, until_N, strict=True)
        if max(time_ms, start_ms) < min(until_ms, end_ms)
    ]
    return [i for i, time_ms in enumerate(time_ms_N) if time_ms in shown]


def shown_at_rate(time_ms_N, duration_ms, start_ms, end_ms, fps):
    """Brute force, in whole numbers: the frame shown at each moment before the end, each once."""
    inside = shown_in(time_ms_N, duration_ms, start_ms, end_ms)
    first = max([i for i in inside if time_ms_N[i] <= start_ms], default=inside[0])
    found = {first}
    moment = 1
    end_ms = min(end_ms, duration_ms)
    while (at_ms := start_ms + Fraction(moment * 1000) / fps) < end_ms:
        found.add(max([i for i in inside if time_ms_N[i] <= at_ms], default=first))
        moment += 1
    return sorted(found)


@settings(deadline=None)
@given(video=videos, fps=rates, clip=clips)
def test_the_frames_of_a_rate_are_those_shown_at_its_moments(video, fps, clip):
    time_ms_N, duration_ms = video
    start_ms, end_ms = clip[0], clip[1] or 10**9
    assume(shown_in(time_ms_N, duration_ms, start_ms, end_ms))
    plan = plan_of(
        at_rate(float(fps), max_frames=10**9),
        np.array(time_ms_N) / 1000,
        duration_ms / 1000,
        clip_start_s=start_ms / 1000,
        clip_end_s=end_ms / 1000,
    )
    expected = shown_at_rate(time_ms_N, duration_ms, start_ms, end_ms, fps)
    assert plan.frame_index_F.tolist() == expected


@settings(deadline=None)
@given(
    video=videos,
    clip=clips,
    policy=st.sampled_from(SAMPLING_POLICIES.names()),
    max_frames=st.integers(1, 400),
    epoch=st.integers(0, 10**6),
    sample_id=st.text(max_size=8),
)
@example(([0], 0), (0, None), "variable", 1, 0, "")
def test_every_policy_keeps_the_cap_the_order_and_the_bounds(
    video, clip, policy, max_frames, epoch, sample_id
):
    time_s_N = np.array(video[0]) / 1000
    start_s, end_s = clip[0] / 1000, math.inf if clip[1] is None else clip[1] / 1000
    inside = shown_in(*video, clip[0], clip[1] or 10**9)
    assume(inside)
    rule = SamplingRule(policy=policy, max_frames=max_frames, num_frames=min(64, max_frames))
    plan = plan_of(
        rule,
        time_s_N,
        video[1] / 1000,
        sample_id,
        epoch,
        clip_start_s=start_s,
        clip_end_s=end_s,
    )
    assert 1 <= len(plan) <= min(max_frames, len(inside), plan.max_frames)
    assert plan.frame_index_F.dtype == np.int64
    assert (np.diff(plan.frame_index_F) > 0).all()
    assert set(plan.frame_index_F.tolist()) <= set(inside)
    assert plan.time_s_F.tolist() == time_s_N[plan.frame_index_F].tolist()
    assert math.isfinite(plan.fps)
    assert 0 <= plan.duration_s <= max(video[1], video[0][-1]) / 1000
    assert (plan.seed, plan.epoch, plan.policy) == (rule.seed, epoch, policy)


def test_half_a_second_apart_at_25_and_at_29_97_frames_a_second():
    assert plan_of(at_rate(2), *constant(75, 25)).frame_index_F.tolist() == [0, 12, 25, 37, 50, 62]
    # 29.97: frame 15 comes at 0.5005 s, so at 0.5 s frame 14 is still shown.
    assert plan_of(at_rate(2), *constant(60, 30_000 / 1001)).frame_index_F.tolist() == [
        *(0, 14, 29, 44, 59),
    ]


def test_a_frame_is_held_until_the_next_one_comes():
    time_s_N = [0.0, 0.1, 0.2, 5.0, 5.1, 9.0]  # slides: seconds pass without a new frame
    plan = plan_of(at_rate(1), time_s_N, 10.0)
    assert plan.frame_index_F.tolist() == [0, 2, 3, 4, 5]  # 0; 1-4; 5; 6-8; 9
    assert plan.time_s_F.tolist() == [0.0, 0.2, 5.0, 5.1, 9.0]


def test_of_frames_at_one_time_the_last_is_shown():
    assert plan_of(at_rate(1), [0.0, 0.0, 1.0, 1.0], 2.0).frame_index_F.tolist() == [1, 3]


def test_a_time_a_hair_after_its_moment_counts_as_on_it():
    tick_s = float(Fraction(1, 15_360))
    time_s_N = np.arange(0, 512 * 600, 512) * tick_s  # 30 frames a second, as mp4 stores them
    assert plan_of(at_rate(3), time_s_N, 20.0).frame_index_F.tolist() == list(range(0, 600, 10))
    assert plan_of(at_rate(3), time_s_N + 3e-7, 20.0).frame_index_F.tolist() == list(
        range(0, 600, 10)
    )


@pytest.mark.parametrize("policy", SAMPLING_POLICIES.names())
def test_one_frame_gives_that_frame(policy):
    plan = plan_of(SamplingRule(policy=policy), [0.0], 0.04)
    assert (plan.frame_index_F.tolist(), plan.time_s_F.tolist()) == ([0], [0.0])
    assert len(plan_of(SamplingRule(policy=policy), [0.0], 0.0)) == 1


def test_a_third_of_a_second_gives_one_or_two_frames():
    time_s_N, duration_s = constant(9, 30)
    frames = {
        plan.fps: plan.frame_index_F.tolist()
        for epoch in range(40)
        for plan in [plan_of(SamplingRule(), time_s_N, duration_s, epoch=epoch)]
    }
    assert frames == {2.0: [0], 3.0: [0], 4.0: [0, 7]}


def test_ten_hours_give_the_cap_uniformly_first_and_last_frame_included():
    time_s_N, duration_s = constant(36_000 * 30, 30)
    plan = plan_of(SamplingRule(), time_s_N, duration_s)
    assert len(plan) == 360
    assert plan.frame_index_F[[0, -1]].tolist() == [0, len(time_s_N) - 1]
    gaps = np.diff(plan.time_s_F)
    assert gaps.max() - gaps.min() < 2 / 30
    assert plan.fps == 0.0


def test_a_damaged_file_that_claims_a_thousand_years_costs_nothing():
    plan = plan_of(at_rate(4, max_frames=5), [0.0, 1.0, 3e10], 3e10)
    assert plan.frame_index_F.tolist() == [0, 1, 2] or plan.frame_index_F.tolist() == [0, 1]
    assert len(plan_of(at_rate(4), [0.0, 1.0], 1e300)) == 2


@pytest.mark.parametrize(
    ("duration_s", "drawn"),
    [
        (60.0, {2.0, 3.0, 4.0}),
        (90.0, {2.0, 3.0, 4.0}),  # 90 x 4 = 360, the cap itself
        (90.1, {2.0, 3.0}),
        (120.0, {2.0, 3.0}),
        (120.1, {2.0}),
        (180.0, {2.0}),
        (180.1, {1.0}),
        (360.0, {1.0}),
    ],
)
def test_short_videos_draw_what_fits_and_long_ones_take_one_a_second(duration_s, drawn):
    time_s_N = np.arange(0, duration_s, 0.1)
    plans = [plan_of(SamplingRule(), time_s_N, duration_s, epoch=epoch) for epoch in range(40)]
    assert {plan.fps for plan in plans} == drawn
    for plan in plans:
        assert len(plan) == num_moments(duration_s, plan.fps) <= 360


def test_above_the_cap_at_one_a_second_frames_lie_uniformly():
    time_s_N = np.arange(0, 361.0, 0.1)
    plan = plan_of(SamplingRule(), time_s_N, 361.0)
    assert len(plan) == 360
    assert plan.frame_index_F[[0, -1]].tolist() == [0, 3609]
    assert plan.fps == 0.0


def test_cap_boundary_candidates_and_upper_bound_are_the_users():
    time_s_N = np.arange(0, 100.0, 0.1)

    def drawn(**settings) -> set[float]:
        rule = SamplingRule(**settings)
        return {plan_of(rule, time_s_N, 100.0, epoch=epoch).fps for epoch in range(40)}

    assert drawn() == {2.0, 3.0}
    assert drawn(max_frames=250) == {2.0}
    assert drawn(max_frames=150) == {1.0}  # none fits
    assert drawn(max_frames=50) == {0.0}  # uniform
    assert drawn(short_video_s=99.0) == {1.0}
    assert drawn(short_video_s=99.0, long_fps=0.5) == {0.5}
    assert drawn(candidates_fps=(0.5, 1.5)) == {0.5, 1.5}
    assert drawn(max_fps=2.5) == {2.0}


def test_the_rates_that_fit_are_drawn_equally_often():
    time_s_N, duration_s = constant(20, 10)
    fps = [plan_of(SamplingRule(), time_s_N, duration_s, f"s{i}").fps for i in range(3000)]
    assert all(abs(number - 1000) < 100 for number in Counter(fps).values())  # 3.9 sigma


def test_fine_tune_240_is_one_a_second_up_to_240_then_uniform():
    rule = SamplingRule(policy="fine_tune_240")
    for duration_s, num_frames in ((10.0, 10), (239.5, 240), (240.0, 240), (240.5, 240)):
        time_s_N = np.arange(0, duration_s, 0.1)
        assert len(plan_of(rule, time_s_N, duration_s)) == num_frames
    exact = plan_of(rule, np.arange(0, 240.0, 0.1), 240.0)
    assert exact.frame_index_F.tolist() == list(range(0, 2400, 10))
    above = plan_of(rule, np.arange(0, 240.5, 0.1), 240.5)
    assert above.frame_index_F[[0, -1]].tolist() == [0, 2404]
    assert above.max_frames == 240
    capped = plan_of(SamplingRule(policy="fine_tune_240", max_frames=5), *constant(200, 10))
    assert (len(capped), capped.max_frames) == (5, 5)


def test_uniform_n_takes_frames_at_equal_times_not_at_equal_indices():
    rule = SamplingRule(policy="uniform_n", num_frames=3)
    assert plan_of(rule, np.arange(11.0), 11.0).frame_index_F.tolist() == [0, 5, 10]
    time_s_N = [*np.arange(0, 1, 0.01), 5.0, 10.0]  # 100 frames in the first second
    assert plan_of(rule, time_s_N, 10.1).frame_index_F.tolist() == [0, 100, 101]
    five = SamplingRule(policy="uniform_n", num_frames=5)
    time_s_N = [*np.arange(0, 1, 0.01), 10.0]  # 0; 2.5, 5 and 7.5 s show one frame; 10
    assert plan_of(five, time_s_N, 10.1).frame_index_F.tolist() == [0, 99, 100]
    two_s = plan_of(five, *constant(50, 25))  # 1 frame a second would give two
    assert (two_s.frame_index_F.tolist(), two_s.fps) == ([0, 12, 24, 36, 49], 0.0)


def test_a_clip_is_planned_from_its_own_start_within_its_part():
    time_s_N, duration_s = constant(250, 25)
    plan = plan_of(at_rate(2), time_s_N, duration_s, clip_start_s=2.5, clip_end_s=4.1)
    assert plan.time_s_F.tolist() == [2.48, 3.0, 3.48, 4.0]  # at 2.5 s that of 2.48 s is shown
    assert plan.frame_index_F.tolist() == [62, 75, 87, 100]
    assert plan.duration_s == pytest.approx(1.6)
    short = plan_of(SamplingRule(), np.arange(0, 3600, 0.5), 3600.0, clip_end_s=30.0)
    assert short.fps >= 2.0  # the clip is short, the film is not


def test_equal_distances_in_a_clip_count_from_its_start():
    slides_s = [0.0, 10.0, 11.0, 12.0, 13.0, 14.0]
    three = SamplingRule(policy="uniform_n", num_frames=3)
    plan = plan_of(three, slides_s, 15.0, clip_start_s=8.0)  # 8, 11 and 14 s
    assert plan.time_s_F.tolist() == [0.0, 11.0, 14.0]


def test_the_first_selection_version_has_the_frames_that_begin_in_a_clip():
    clip = {"clip_start_s": 2.5, "clip_end_s": 4.1, "selection_version": 1}
    plan = plan_of(at_rate(2), *constant(250, 25), **clip)
    assert plan.time_s_F.tolist() == [2.52, 3.0, 3.48, 4.0]
    with pytest.raises(ValueError, match="none of 4 frames"):
        plan_of(at_rate(2), [0.0, 4.0, 9.0, 15.0], 20.0, **{**clip, "clip_start_s": 4.05})


def test_a_clip_without_a_frame_is_refused():
    with pytest.raises(ValueError, match=r"sample 'a': none of 250 frames .* \[20 s, 21 s\)"):
        plan_of(SamplingRule(), *constant(250, 25), clip_start_s=20.0, clip_end_s=21.0)


def test_an_image_has_one_frame():
    plan = image_plan(SamplingRule(seed=3), epoch=2)
    assert (plan.frame_index_F.tolist(), plan.time_s_F.tolist(), plan.fps) == ([0], [0.0], 0.0)
    assert (plan.seed, plan.epoch) == (3, 2)


# Computed by hand with printf and sha256sum.
@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ((), 0xE3B0C44298FC1C14),  # SHA-256 of nothing
        (("abc",), 0x4C0E77880C912423),
        (("sampling", 0, 0, "f"), 0x61FB0F8D72777CB5),
    ],
)
def test_hashes_are_the_first_bytes_of_sha256(parts, value):
    assert hash64(*parts) == value


def test_parts_of_a_hash_are_kept_apart():
    numbers = [hash64("ab", "c"), hash64("a", "bc"), hash64("abc"), hash64("1"), hash64(1)]
    assert len({*numbers, hash64(-1), hash64("1", 0), hash64("10")}) == 8
    assert hash64("\ud800") != hash64("?")  # JSON may hold a lone surrogate


def test_choices_lie_in_range():
    assert {choose(3, i) for i in range(100)} == {0, 1, 2}
    with pytest.raises(ValueError, match="num must be 1 or more, got 0"):
        choose(0, "a")


def test_draws_follow_the_hash():
    # By sha256sum: f 0x61fb..., h 0xaeab..., a 0x4769..., ünï/日本 0x233e..., thirds at 0x5555...
    # and 0xaaaa...; the first third draws the lowest rate.
    drawn = {"f": 3.0, "h": 4.0, "a": 2.0, "ünï/日本": 2.0}
    time_s_N, duration_s = constant(300, 30)
    assert {s: plan_of(SamplingRule(), time_s_N, duration_s, s).fps for s in drawn} == drawn


def test_another_process_in_another_order_draws_the_same():
    keys = [(f"s{i}", epoch) for i in range(20) for epoch in range(3)]
    code = (
        "import json, numpy as np\n"
        "from vxp_data.core.sampling_plans import SamplingRule, draw_plan\n"
        f"rule = SamplingRule.from_dict(json.loads({json.dumps(SamplingRule().to_dict())!r}))\n"
        "np.random.seed(5)\n"
        f"for sample_id, epoch in reversed({keys!r}):\n"
        "    plan = draw_plan(rule, sample_id=sample_id, epoch=epoch,\n"
        "        time_s_N=np.arange(300) / 30, duration_s=10.0, source_fps=30.0)\n"
        "    print(json.dumps([sample_id, epoch, plan.fps, plan.frame_index_F.tolist()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = {
        (s, e): (fps, index) for s, e, fps, index in map(json.loads, done.stdout.splitlines())
    }
    time_s_N, duration_s = constant(300, 30)
    plans = {key: plan_of(SamplingRule(), time_s_N, duration_s, *key) for key in keys}
    assert theirs == {k: (plan.fps, plan.frame_index_F.tolist()) for k, plan in plans.items()}
    assert len({plan.fps for plan in plans.values()}) == 3


def test_seed_epoch_and_sample_each_change_the_draw():
    time_s_N, duration_s = constant(300, 30)

    def drawn(of) -> set[float]:
        return {of(i).fps for i in range(20)}

    everything = {2.0, 3.0, 4.0}
    assert drawn(lambda i: plan_of(SamplingRule(seed=i), time_s_N, duration_s)) == everything
    assert drawn(lambda i: plan_of(SamplingRule(), time_s_N, duration_s, epoch=i)) == everything
    assert drawn(lambda i: plan_of(SamplingRule(), time_s_N, duration_s, f"s{i}")) == everything


def test_a_rule_survives_json_and_keeps_each_field_of_one_type():
    default, other = SamplingRule(), SamplingRule(policy="uniform_n", fps=2, candidates_fps=(1, 2))
    for rule in (default, other):
        assert SamplingRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    kinds = [{k: type(v) for k, v in rule.to_dict().items()} for rule in (default, other)]
    assert kinds[0] == kinds[1]
    assert set(map(type, default.to_dict()["candidates_fps"])) == {float}


def test_a_rule_of_another_version_is_refused():
    values = SamplingRule().to_dict()
    with pytest.raises(ValueError, match=r"odd: \['speed'\]"):
        SamplingRule.from_dict({**values, "speed": 1})
    del values["seed"]
    with pytest.raises(ValueError, match=r"odd: \['seed'\]"):
        SamplingRule.from_dict(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_frames": 0}, "max_frames: got 0, wanted 1 or more"),
        ({"policy": "uniform_n", "num_frames": 361}, "wanted at most max_frames"),
        ({"fps": math.nan}, "fps: got nan, wanted above 0"),
        ({"short_video_s": -1.0}, "short_video_s: got -1.0"),
        ({"candidates_fps": ()}, "candidates_fps: got"),
        ({"candidates_fps": (3.0, 2.0)}, "wanted rates above 0, ascending, none twice"),
        ({"candidates_fps": (2.0, 2.0)}, "none twice"),
        ({"candidates_fps": (5.0,)}, r"the first at most 4 \(max_fps\)"),
        ({"fps": 8.0}, r"fps: got 8.0, wanted above 0, at most max_fps \(4\)"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplingRule(**settings)


def test_an_unknown_policy_is_refused_by_name():
    with pytest.raises(UserError, match=r"unknown sampling policy 'varable'\. Did you mean"):
        SamplingRule(policy="varable")


@pytest.mark.parametrize(("duration_s", "epoch"), [(-1.0, 0), (math.nan, 0), (1.0, -1)])
def test_a_negative_duration_or_epoch_is_refused(duration_s, epoch):
    with pytest.raises(ValueError, match="must be 0 or more"):
        plan_of(SamplingRule(), [0.0], duration_s, epoch=epoch)


def test_a_plan_knows_its_length():
    assert len(plan_of(at_rate(1), *constant(75, 25))) == 3
    assert isinstance(plan_of(at_rate(1), *constant(75, 25)), SamplingPlan)
