"""Similarity measures against brute force over pairs, and their conformance to the registry."""

import ast
import dataclasses
import math
import os
import subprocess
import sys
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxp_data.core import similarity
from vxp_data.core.similarity import score_videos
from vxp_data.registry import MEASURES

NAMES = MEASURES.names()
ALL = [MEASURES.load(name) for name in NAMES]


def unit(*degrees):
    """Unit vectors in the plane, so that cosines can be read off the angles."""
    angle_F = np.deg2rad(degrees)
    return np.stack([np.cos(angle_F), np.sin(angle_F)], axis=1).astype(np.float32)


def random_video(rng, num_frames, width=48, spread=1.0, dtype=np.float16):
    emb_FD = rng.standard_normal(width) + spread * rng.standard_normal((num_frames, width))
    return (emb_FD / np.linalg.norm(emb_FD, axis=1, keepdims=True)).astype(dtype)


def brute_force(emb_FD):
    """Every measure by its definition: Python loops, and a plain dot product in float64."""
    rows = [[float(x) for x in row] for row in emb_FD]
    rows = [[x / math.sqrt(math.fsum(y * y for y in row)) for x in row] for row in rows]
    if len(rows) == 1:
        return dict.fromkeys(NAMES, 1.0)
    pairs = [dot(a, b) for a, b in combinations(rows, 2)]
    adjacent = [dot(a, b) for a, b in pairwise(rows)]
    mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    length = math.sqrt(dot(mean, mean))
    to_mean = [dot(row, mean) / length if length else 0.0 for row in rows]
    # The eigenvalues of K/n are the squared singular values of the rows over n.
    share_F = np.linalg.svd(np.array(rows), compute_uv=False) ** 2 / len(rows)
    return {
        "mean_pairwise": math.fsum(pairs) / len(pairs),
        "mean_adjacent": math.fsum(adjacent) / len(adjacent),
        "min_pairwise": min(pairs),
        "centroid": math.fsum(to_mean) / len(rows),
        "effective_frames": math.exp(-math.fsum(p * math.log(p) for p in share_F if p > 0)),
    }


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_angles_in_the_plane_give_the_scores_that_can_be_read_off():
    score = score_videos([unit(0, 60, 90)], ALL)
    cos_30 = math.sqrt(3) / 2
    assert score["mean_pairwise"] == pytest.approx([(0.5 + 0 + cos_30) / 3], abs=1e-7)
    assert score["mean_adjacent"] == pytest.approx([(0.5 + cos_30) / 2], abs=1e-7)
    assert score["min_pairwise"] == pytest.approx([0], abs=1e-7)
    assert score["centroid"] == pytest.approx([math.sqrt(3 + 2 * (0.5 + cos_30)) / 3], abs=1e-7)


def test_orthogonal_frames_are_all_effective_and_copies_count_once():
    eye = np.eye(5, dtype=np.float32)
    assert score_videos([eye, eye[[0, 0, 0]], eye[[0, 0, 1, 1]]], ALL) == {
        "mean_pairwise": pytest.approx([0, 1, 1 / 3]),
        "mean_adjacent": pytest.approx([0, 1, 2 / 3]),
        "min_pairwise": pytest.approx([0, 1, 0]),
        "centroid": pytest.approx([1 / math.sqrt(5), 1, math.sqrt(1 / 2)]),
        "effective_frames": pytest.approx([5, 1, 2]),
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 1e-9), (np.float32, 1e-6)])
def test_scores_equal_brute_force_for_mixed_lengths_in_input_order(dtype, tolerance):
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 22, size=60)
    videos = [random_video(rng, n, spread=rng.uniform(0.01, 3), dtype=dtype) for n in lengths]
    expected = [brute_force(video) for video in videos]
    score = score_videos(videos, ALL)
    for name in NAMES:
        assert score[name] == pytest.approx([e[name] for e in expected], abs=tolerance), name
        assert score[name].dtype == np.float64


def test_a_video_alone_gives_the_same_bits_as_among_a_thousand():
    rng = np.random.default_rng(4)
    lengths = [20] * 700 + [2, 3, 19] * 100
    videos = [random_video(rng, n, width=97, dtype=np.float32) for n in lengths]
    together = score_videos(videos, ALL)
    alone = [score_videos([video], ALL) for video in videos]
    for name in NAMES:
        assert together[name].tobytes() == np.concatenate([a[name] for a in alone]).tobytes(), name


def test_cosines_are_exact_so_no_order_of_summation_changes_a_bit():
    rng = np.random.default_rng(5)
    emb_VFD = np.stack([random_video(rng, 20, width=1152, dtype=np.float32) for _ in range(4)])
    shuffled_VFD = emb_VFD[:, :, rng.permutation(1152)]
    ours, other = score_videos(list(emb_VFD), ALL), score_videos(list(shuffled_VFD), ALL)
    assert {name: ours[name].tobytes() for name in NAMES} == {
        name: other[name].tobytes() for name in NAMES
    }


def test_frames_whose_mean_vanishes_have_centroid_zero():
    opposed = unit(322, 286, 253, 502, 466, 433)  # the sum of their cosines is -7e-16
    assert score_videos([opposed], ALL)["centroid"] == pytest.approx([0], abs=1e-7)


OTHER_MACHINES = [
    {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
    {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
]


@pytest.mark.parametrize("machine", OTHER_MACHINES, ids=lambda m: m["OPENBLAS_CORETYPE"])
def test_another_cpu_type_and_number_of_threads_give_the_same_bits(machine, tmp_path):
    rng = np.random.default_rng(8)
    emb_VFD = np.stack([random_video(rng, 20, width=1152, dtype=np.float32) for _ in range(9)])
    np.save(tmp_path / "emb.npy", emb_VFD)
    script = (
        "import sys, numpy as np\n"
        "from vxp_data.core.similarity import score_videos\n"
        "from vxp_data.registry import MEASURES\n"
        "measures = [MEASURES.load(name) for name in MEASURES.names()]\n"
        "score = score_videos(list(np.load(sys.argv[1])), measures)\n"
        "print({name: values.tobytes().hex() for name, values in score.items()})\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "emb.npy")],
        env={**os.environ, **machine},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = score_videos(list(emb_VFD), ALL)
    assert ast.literal_eval(printed) == {n: here[n].tobytes().hex() for n in NAMES}


def test_blocks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(6)
    videos = [random_video(rng, n) for n in rng.integers(1, 5, size=50)]
    before = score_videos(videos, ALL)
    monkeypatch.setattr(similarity, "BLOCK_VALUES", 1)
    after = score_videos(videos, ALL)
    assert {n: s.tolist() for n, s in before.items()} == {n: s.tolist() for n, s in after.items()}


def test_rows_off_by_float16_rounding_are_normalised_again():
    emb_FD = unit(0, 60)
    exact, scaled = score_videos([emb_FD, emb_FD * np.float32([[1.009], [0.991]])], ALL[:1])[
        NAMES[0]
    ]
    assert scaled == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize(("value", "norm"), [(np.nan, "nan"), (1.02, "1.02"), (0.0, "0")])
def test_a_row_that_is_not_of_unit_norm_is_named(value, norm):
    videos = [unit(0, 90), unit(5), unit(0, 90)]
    videos[2][1] = [0, value]
    with pytest.raises(ValueError, match=rf"row 1 of video 2 has norm {norm}\b"):
        score_videos(videos, ALL)


@pytest.mark.parametrize("bad", [np.ones((0, 2)), np.ones(2), np.ones((1, 3))])
def test_a_video_of_another_shape_is_named(bad):
    with pytest.raises(ValueError, match=r"video 1 has shape .* video 0 \[2, 2\]"):
        score_videos([unit(0, 90), bad], ALL)


def test_a_measure_that_leaves_its_range_by_rounding_is_clipped():
    careless = dataclasses.replace(ALL[0], of_cosines=lambda cosine_VFF: cosine_VFF[:, 0, 0] + 1e-9)
    assert score_videos([unit(0, 90)], [careless])[careless.name].tolist() == [1.0]


def test_no_videos_give_no_scores():
    assert {n: s.tolist() for n, s in score_videos([], ALL).items()} == {n: [] for n in NAMES}


# A new registry line needs no new test below.
@pytest.fixture(params=NAMES)
def measure(request):
    return MEASURES.load(request.param)


def test_measure_bears_its_registry_name(measure, request):
    assert measure.name == request.node.callspec.params["measure"]


def test_one_frame_and_copies_of_a_frame_are_fully_redundant(measure):
    most_redundant = measure.high if measure.redundant_when == "high" else measure.low
    rng = np.random.default_rng(7)
    copies = [random_video(rng, 1, dtype=np.float32).repeat(n, axis=0) for n in (1, 2, 20)]
    assert score_videos(copies, [measure])[measure.name].tolist() == [most_redundant] * 3
    assert measure.one_frame == most_redundant


def test_more_alike_frames_are_more_redundant(measure):
    video = [unit(*np.linspace(0, degrees, 6)) for degrees in (1, 10, 30, 60, 90)]
    redundancy = measure.redundancy(score_videos(video, [measure])[measure.name])
    assert (np.diff(redundancy) < 0).all()


def test_redundancy_is_undone_by_own_units(measure):
    score = np.array([0.0, 0.25, 1.0])
    assert measure.own_units(measure.redundancy(score)).tobytes() == score.tobytes()


@settings(deadline=None)
@given(
    angles=st.lists(st.floats(0, 360), min_size=1, max_size=8),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_in_range_and_equal_brute_force_for_any_angles(name, angles, dtype):
    measure = MEASURES.load(name)
    emb_FD = unit(*angles).astype(dtype)
    (score,) = measure.compute(emb_FD[None])
    assert measure.low <= score <= min(measure.high, len(angles))
    again = measure.compute(np.stack([emb_FD, emb_FD]))
    assert again.tolist() == [score, score]
    # A mean near zero has no direction to compare with, so brute force has no digits there.
    if name != "centroid" or score > 1e-3:
        assert score == pytest.approx(brute_force(emb_FD)[name], abs=1e-5)
