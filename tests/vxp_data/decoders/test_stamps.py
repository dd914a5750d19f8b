"""Timestamps that are wrong here and there; every row is worked out by hand."""

import numpy as np
import pytest

from vxp_data.decoders.stamps import NO_STAMP, clock_jumps, rising

NONE = NO_STAMP


@pytest.mark.parametrize(
    ("stamps", "risen", "scale", "num_moved"),
    [
        ([0, 40, 80], [0, 40, 80], 1, 0),
        ([7], [7], 1, 0),
        ([0, 40, 80, 80, 120], [0, 40, 80, 100, 120], 1, 1),
        ([0, 0, 40, 80], [0, 20, 40, 80], 1, 1),
        ([0, 40, 80, 80], [0, 40, 80, 120], 1, 1),
        ([0, 40, 80, 60, 120], [0, 40, 50, 60, 120], 1, 1),
        ([0, 40, 9000, 120, 160], [0, 40, 80, 120, 160], 1, 1),  # not all that come after it
        ([NONE, 40, 80], [0, 40, 80], 1, 1),
        ([0, 40, NONE, NONE, 160], [0, 40, 80, 120, 160], 1, 2),
        ([500, 0, 40, 80], [-40, 0, 40, 80], 1, 1),
        ([0, 1, 1, 1, 2, 3], [0, 3, 4, 5, 6, 9], 3, 2),  # three frames in one tick
    ],
)
def test_bad_stamps_get_a_time_between_their_neighbours(stamps, risen, scale, num_moved):
    found = rising(np.array(stamps, dtype=np.int64), gap=40)
    assert found.stamp_N.tolist() == risen
    assert (found.scale, found.num_moved) == (scale, num_moved)


@pytest.mark.parametrize(
    "stamps", [[0, 0, 0, 0], [NONE, NONE], [30, 20, 10, 0], [0] * 50 + [1] * 9]
)
def test_stamps_of_which_most_do_not_rise_are_no_times(stamps):
    assert rising(np.array(stamps, dtype=np.int64), gap=40) is None


def test_large_stamps_are_not_rounded():
    far = 1 << 60
    stamps = np.array([far, far + 1, far + 1, far + 3, far + 4], dtype=np.int64)
    assert (rising(stamps, gap=1).stamp_N - far).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("dts", "offsets", "num_jumps", "total"),
    [
        ([0, 4, 8, 2, 6], [0, 0, 0, -10, -10], 1, 10),
        ([0, 4, 8, 900, 904], [0, 0, 0, 888, 888], 1, 888),
        ([0, 4, 8, 900, 12, 16], [0, 0, 0, 888, -4, -4], 2, 888 + 892),
        ([100, NONE, 104, 2, 6], [0, 0, 0, -106, -106], 1, 106),
    ],
)
def test_a_jump_of_the_clock_becomes_one_frame(dts, offsets, num_jumps, total):
    found = clock_jumps(np.array(dts, dtype=np.int64), longest=100)
    assert found.offset_P.tolist() == offsets
    assert (found.num_jumps, found.total_ticks) == (num_jumps, total)


def test_a_clock_that_runs_on_is_left_alone():
    assert clock_jumps(np.array([0, 4, 4, 104, 108], dtype=np.int64), longest=100) is None
