"""Packed timelines: short, and exact to the bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core.timeline import frame_times, pack_timeline, unpack_timeline

gaps = st.lists(st.integers(0, 2**40), max_size=200)


@settings(deadline=None)
@given(gaps=gaps, first=st.integers(-(2**40), 2**40), rate=st.integers(1, 10**9))
def test_times_come_back_to_the_bit(gaps, first, rate):
    tick_N = np.cumsum(np.array([first, *gaps], dtype=np.int64))
    tick_s = float(Fraction(1, rate))
    time_s_N = unpack_timeline(pack_timeline(tick_N, tick_s))
    assert time_s_N.tolist() == frame_times(tick_N, tick_s).tolist()
    assert time_s_N.dtype == np.float64


def test_what_a_timeline_looks_like():
    assert pack_timeline(np.array([512, 1024]), 1 / 64).startswith("0.015625:")
    # zlib of the eight bytes of 512; other builds of zlib may write, but all read it.
    assert unpack_timeline("0.015625:eJxjYGIAAwAAFgAD").tolist() == [0.0, 8.0]


def test_an_hour_at_a_constant_rate_takes_a_few_thousand_characters():
    hour_N = np.arange(30 * 3600)
    assert len(pack_timeline(hour_N * 512, 1 / 15_360)) < 1800
    assert len(pack_timeline(np.round(hour_N * 1000 / 30).astype(np.int64), 1e-3)) < 4000


@pytest.mark.parametrize(
    "text",
    ["", "0.1", "0.1:", "0.1:!!", "0.1:AAAA", ":eJwDAAAAAAE=", "x:eJw=", "0.1:eJxjYGIA AwAAFgAD"],
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="not a timeline"):
        unpack_timeline(text)
