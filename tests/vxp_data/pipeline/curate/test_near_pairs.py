"""Pairs of clips as numbers: those that a plain loop over sets would give."""

import numpy as np
import pytest

from vxp_data.pipeline.curate.near_candidates import ClipOrder


@pytest.mark.parametrize("others_only", [False, True])
def test_coded_pairs_are_those_of_a_plain_loop(others_only):
    rng = np.random.default_rng(0)
    num_clips, num_pairs = 40, 3000
    order = ClipOrder(
        duration_s_C=np.ones(num_clips),
        num_rows_C=np.ones(num_clips, dtype=np.int64),
        is_other_C=rng.random(num_clips) < 0.3,
        file_C=rng.integers(0, 30, num_clips),
        others_only=others_only,
    )
    first_P, second_P = rng.integers(0, num_clips, (2, num_pairs))
    wanted = set()
    for first, second in zip(first_P.tolist(), second_P.tolist(), strict=True):
        others = int(order.is_other_C[first]) + int(order.is_other_C[second])
        is_same_file = order.file_C[first] == order.file_C[second]
        if not is_same_file and (others == 1 or (others == 0 and not others_only)):
            wanted.add((min(first, second), max(first, second)))
    code_P = order.coded(first_P, second_P)
    assert (np.diff(code_P) > 0).all()
    pairs = zip(*(indices.tolist() for indices in order.decoded(code_P)), strict=True)
    assert list(pairs) == sorted(wanted)
    assert len(wanted) > 100
