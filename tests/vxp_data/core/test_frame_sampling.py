"""Frame samplers and seek strategies, by eye, by brute force and over the registry."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.frame_sampling import (
    frames_beginning,
    frames_shown,
    midpoint,
    plan_indices,
    uniform,
)
from vxp_data.errors import UserError
from vxp_data.registry import FRAME_SAMPLERS


def keys(num_frames, *at):
    is_key_N = np.zeros(num_frames, dtype=np.bool_)
    is_key_N[list(at)] = True
    return is_key_N


def at_10_fps(num_frames):
    return np.arange(num_frames) / 10


timelines = st.lists(
    st.tuples(st.sampled_from([0.0, 0.04, 0.04, 0.1, 2.0]), st.booleans()), min_size=1, max_size=60
).map(lambda rows: (np.cumsum([gap for gap, _ in rows]), np.array([key for _, key in rows])))


@pytest.mark.parametrize(
    ("num_available", "num_frames", "expected"),
    [
        (10, 4, [0, 3, 6, 9]),
        (4, 3, [0, 2, 3]),  # 1.5 to the even 2
        (6, 3, [0, 2, 5]),  # 2.5 to the even 2
        (100, 5, [0, 25, 50, 74, 99]),  # 24.75, 49.5, 74.25
        (10, 1, [0]),
        (3, 20, [0, 1, 2]),
        (0, 20, []),
    ],
)
def test_uniform_takes_both_ends_and_rounds_halves_to_even(num_available, num_frames, expected):
    assert uniform(num_available, num_frames).tolist() == expected


@pytest.mark.parametrize(
    ("num_available", "num_frames", "expected"),
    [(10, 2, [2, 7]), (9, 3, [1, 4, 7]), (10, 1, [5]), (100, 4, [12, 37, 62, 87]), (2, 5, [0, 1])],
)
def test_midpoint_takes_the_middle_of_equal_parts(num_available, num_frames, expected):
    assert midpoint(num_available, num_frames).tolist() == expected


@settings(deadline=None)
@given(num_frames=st.integers(1, 400), more=st.integers(1, 10**7))
def test_uniform_is_the_rounded_exact_fraction(num_frames, more):
    num_available = num_frames + more
    index_F = uniform(num_available, num_frames).tolist()
    exact = [Fraction(i * (num_available - 1), max(1, num_frames - 1)) for i in range(num_frames)]
    off = [abs(index - value) for index, value in zip(index_F, exact, strict=True)]
    assert max(off) <= Fraction(1, 2) + Fraction(1, 10**6)  # float linspace near a half


# A new registry line needs no new test below.
@pytest.fixture(params=FRAME_SAMPLERS.names())
def sampler(request):
    return FRAME_SAMPLERS.load(request.param)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 20, 301])
@pytest.mark.parametrize("num_available", [0, 1, 19, 20, 21, 22, 39, 301, 302, 10**6])
def test_indices_are_increasing_inside_the_video_and_as_many_as_can_be(
    sampler, num_available, num_frames
):
    index_F = sampler(num_available, num_frames)
    assert index_F.dtype == np.int64
    assert index_F.shape == (min(num_available, num_frames),)
    assert (np.diff(index_F) > 0).all()
    assert set(index_F[[0, -1]] if len(index_F) else []) <= set(range(num_available))
    assert sampler(num_available, num_frames).tolist() == index_F.tolist()


def test_counts_out_of_range_are_refused(sampler):
    with pytest.raises(ValueError, match="num_frames must be 1 or more, got 0"):
        sampler(10, 0)
    with pytest.raises(ValueError, match="num_available must be 0 or more, got -1"):
        sampler(-1, 20)


def at_keys(index_F, time_s_N, is_key_N):
    """The plan for given targets, by key frames."""
    return plan_indices(
        time_s_N, is_key_N, sampler=lambda *_: index_F, num_frames=len(index_F), seek="keyframe"
    )


def test_targets_go_to_the_key_frame_nearest_in_time_not_in_index():
    time_s_N = np.array([0.0, 1.0, 1.1, 1.2, 5.0, 5.1])
    index = at_keys(np.array([0, 1, 2, 3, 4, 5]), time_s_N, keys(6, 1, 4))
    assert index.tolist() == [1, 4]
    assert at_keys(np.array([3]), time_s_N, keys(6, 0, 4)).tolist() == [0]


def test_the_earlier_of_two_equally_near_key_frames_is_taken():
    assert at_keys(np.array([2]), np.arange(5.0), keys(5, 0, 4)).tolist() == [0]


@settings(deadline=None)
@given(timeline=timelines, num_frames=st.integers(1, 20))
def test_nearest_key_frames_equal_brute_force(timeline, num_frames):
    time_s_N, is_key_N = timeline
    is_key_N[0] |= not is_key_N.any()
    target_F = uniform(len(time_s_N), num_frames)
    planned = at_keys(target_F, time_s_N, is_key_N)
    key_K = np.flatnonzero(is_key_N)
    nearest_s_F = [abs(time_s_N[key_K] - time_s_N[target]).min() for target in target_F]
    reached_s_F = [abs(time_s_N[planned] - time_s_N[target]).min() for target in target_F]
    assert reached_s_F == nearest_s_F
    assert is_key_N[planned].all()
    assert (np.diff(planned) > 0).all()
    assert len(planned) <= len(target_F)


@pytest.mark.parametrize(
    ("seek", "key_at", "expected"),
    [
        ("exact", (0, 50, 100), [0, 50, 100]),
        ("exact", (3,), [0, 50, 100]),
        ("keyframe", (2, 60), [2, 60]),
        ("keyframe", (), [0, 50, 100]),
        ("auto", (2, 60, 99), [2, 60, 99]),
        ("auto", (), [0, 50, 100]),
        ("auto", (2, 60), [0, 50, 100]),  # too few
        ("auto", (0, 66, 100), [0, 66, 100]),  # half of 10 s / 3 is 1.67 s; 1.6 s away
        ("auto", (0, 67, 100), [0, 50, 100]),  # 1.7 s away
        ("auto", (17, 50, 100), [0, 50, 100]),
    ],
)
def test_seek_strategies_by_eye(seek, key_at, expected):
    planned = plan_indices(
        at_10_fps(101), keys(101, *key_at), sampler=uniform, num_frames=3, seek=seek
    )
    assert planned.tolist() == expected


@pytest.mark.parametrize("seek", ["exact", "keyframe", "auto"])
@pytest.mark.parametrize("num_available", [0, 1, 5])
def test_videos_shorter_than_the_plan_give_all_their_frames(seek, num_available):
    all_keys_N = np.ones(num_available, dtype=np.bool_)
    planned = plan_indices(
        at_10_fps(num_available), all_keys_N, sampler=uniform, num_frames=20, seek=seek
    )
    assert planned.tolist() == list(range(num_available))
    assert planned.dtype == np.int64


@settings(deadline=None)
@given(timeline=timelines, num_frames=st.integers(1, 20))
def test_auto_is_either_exact_or_key_frames_close_to_as_many_targets(timeline, num_frames):
    time_s_N, is_key_N = timeline
    exact, keyframe, auto = (
        plan_indices(time_s_N, is_key_N, sampler=uniform, num_frames=num_frames, seek=seek)
        for seek in ("exact", "keyframe", "auto")
    )
    half_s = (time_s_N[-1] - time_s_N[0]) / len(exact) / 2
    close = len(keyframe) == len(exact) and all(
        abs(time_s_N[keyframe] - time_s_N[target]).min() <= half_s for target in exact
    )
    assert auto.tolist() == (keyframe if close else exact).tolist()


def test_an_unknown_seek_is_refused_by_name():
    with pytest.raises(UserError, match=r"unknown seek 'keyframes'\. Did you mean 'keyframe'"):
        plan_indices(at_10_fps(3), keys(3, 0), sampler=uniform, num_frames=3, seek="keyframes")


@pytest.mark.parametrize("bad", [0.05, np.nan])
def test_time_that_goes_backwards_is_refused_and_the_frame_named(bad):
    time_s_N = np.array([0.0, 0.1, bad, 0.3])
    with pytest.raises(ValueError, match=f"frame 2 of 4 is at {bad} s after 0.1 s"):
        plan_indices(time_s_N, keys(4, 0), sampler=uniform, num_frames=2, seek="exact")
    with pytest.raises(ValueError, match="frame 2 of 4"):
        frames_shown(time_s_N, 1.0, 0.0, 1.0)


def test_times_and_flags_of_different_length_are_refused():
    with pytest.raises(ValueError, match="got 3 times and 4 key frame flags"):
        plan_indices(at_10_fps(3), keys(4, 0), sampler=uniform, num_frames=2, seek="exact")


SLIDES_S = np.array([0.0, 4.0, 9.0, 15.0])
"""When slides come on screen; the last stays until 20 s."""


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (0.0, np.inf, slice(0, 4)),
        (5.0, 8.0, slice(1, 2)),  # the one that came at 4 s
        (5.0, 12.0, slice(1, 3)),
        (4.0, 9.0, slice(1, 2)),  # cut at the changes: neither neighbour
        (4.0 - 1e-9, 9.0 + 1e-9, slice(1, 2)),
        (4.0 + 1e-9, 9.0 - 1e-9, slice(1, 2)),
        (3.99, 9.01, slice(0, 3)),
        (4.0, 4.0 + 1e-9, slice(1, 2)),
        (16.0, 17.0, slice(3, 4)),  # the last is shown until the end
        (19.999, 30.0, slice(3, 4)),
        (20.0, 30.0, slice(4, 4)),  # outside from the duration on
        (25.0, np.inf, slice(4, 4)),
        (-5.0, 0.0, slice(0, 0)),
        (-5.0, 1.0, slice(0, 1)),
        (5.0, 5.0, slice(0, 0)),  # no moment
    ],
)
def test_a_clip_has_the_frames_that_are_on_screen_in_it(start_s, end_s, expected):
    assert frames_shown(SLIDES_S, 20.0, start_s, end_s) == expected


def test_a_still_is_shown_although_it_lasts_no_time():
    assert frames_shown(np.zeros(1), 0.0, 0.0, np.inf) == slice(0, 1)
    assert frames_shown(np.zeros(1), 0.0, 1.0, 2.0) == slice(1, 1)
    assert frames_shown(np.zeros(0), 0.0, 0.0, np.inf) == slice(0, 0)


def test_clips_that_meet_share_the_frame_on_screen_then_and_miss_none():
    time_s_N = np.array([0.0, 0.1, 0.1, 0.2, 0.3])

    def clips(cut_s: float) -> tuple[slice, slice]:
        return frames_shown(time_s_N, 0.4, 0.0, cut_s), frames_shown(time_s_N, 0.4, cut_s, 1.0)

    assert clips(0.1) == (slice(0, 1), slice(1, 5))  # cut where a frame begins: none is shared
    assert clips(0.15) == (slice(0, 3), slice(1, 5))
    assert clips(0.25) == (slice(0, 4), slice(3, 5))


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [(0.0, np.inf, slice(0, 4)), (4.0, 15.0, slice(1, 3)), (5.0, 8.0, slice(2, 2))],
)
def test_the_first_version_took_the_frames_that_begin_in_a_clip(start_s, end_s, expected):
    assert frames_beginning(SLIDES_S, start_s, end_s) == expected


@pytest.mark.parametrize(("start_s", "end_s"), [(2.0, 1.0), (np.nan, 1.0), (0.0, np.nan)])
def test_a_clip_that_ends_before_it_starts_is_refused(start_s, end_s):
    with pytest.raises(ValueError, match="start_s <= end_s"):
        frames_shown(np.arange(5.0), 5.0, start_s, end_s)
