"""How the frames of one row are shared out among its media."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxp_data.core.frame_shares import media_rules, share_frames
from vxp_data.core.sampling_plans import SamplingRule, draw_plan


@pytest.mark.parametrize(
    ("max_frames", "duration_s", "wanted"),
    [
        (360, [60.0, 60.0], [180, 180]),
        (360, [30.0, 90.0], [90, 270]),
        (360, [None, 30.0, None, 90.0], [1, 90, 1, 268]),  # 358: 89.5 and 268.5
        (10, [1.0, 1.0, 1.0], [4, 3, 3]),
        (10, [1.0, 2.0, 4.0], [1, 3, 6]),  # 1.43, 2.86, 5.71
        (8, [0.001, 1000.0], [1, 7]),
        (9, [0.001, 1.0, 1000.0], [1, 1, 7]),  # without the first, the second is short as well
        (6, [0.0, 0.0, 0.0, 0.0], [2, 2, 1, 1]),
        (360, [None, None, None], [1, 1, 1]),
        (2, [5.0, None, 5.0, None], [1, 1, 1, 1]),  # no room: one each all the same
        (1, [5.0], [1]),
    ],
)
def test_frames_are_shared_by_length(max_frames, duration_s, wanted):
    assert share_frames(max_frames, duration_s) == wanted


@given(
    st.integers(1, 400),
    st.lists(st.one_of(st.none(), st.floats(0, 1e7)), min_size=1, max_size=9),
)
def test_shares_add_up_and_none_is_a_frame_off_its_proportion(max_frames, duration_s):
    shares = share_frames(max_frames, duration_s)
    videos = [i for i, seconds in enumerate(duration_s) if seconds is not None]
    assert min(shares) == 1 or len(videos) == len(shares)
    assert all(shares[i] == 1 for i in range(len(shares)) if i not in videos)
    if not videos or len(shares) >= max_frames:
        assert shares == [1] * len(shares)
        return
    assert sum(shares) == max_frames
    left = max_frames - len(shares) + len(videos)
    total = sum(Fraction(duration_s[i]) for i in videos)
    exact = {i: left * Fraction(duration_s[i]) / total if total else Fraction(left, len(videos))
             for i in videos}  # fmt: skip
    assert all(shares[i] < exact[i] + 1 or shares[i] == 1 for i in videos)
    if all(quota >= 1 for quota in exact.values()):
        assert all(abs(shares[i] - exact[i]) < 1 for i in videos)


def test_lengths_below_0_are_refused():
    with pytest.raises(ValueError, match="0 or more"):
        share_frames(8, [1.0, -1.0])


@pytest.mark.parametrize(
    ("rule", "cap"),
    [
        (SamplingRule(), 360),
        (SamplingRule(policy="fixed_fps", fps=2.0, max_frames=100), 100),
        (SamplingRule(policy="uniform_n", num_frames=64), 64),
        (SamplingRule(policy="fine_tune_240"), 240),
    ],
)
def test_all_media_together_have_no_more_frames_than_one_may_have(rule, cap):
    lengths = [400.0, 200.0, 600.0]
    rules = media_rules(rule, [None, *lengths])
    assert [own.max_frames for own in rules] == share_frames(cap, [None, *lengths])
    drawn = [
        draw_plan(
            own, sample_id="a", epoch=0, time_s_N=np.arange(0, length, 0.1), duration_s=length,
            source_fps=10.0,
        )
        for own, length in zip(rules[1:], lengths, strict=True)
    ]  # fmt: skip
    assert sum(map(len, drawn)) == cap - 1
