"""What pipelines/bench/encoders_compared.py counts, beside the same by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.flat_videos import write_flat_video
from vxp_data.core.similarity import EFFECTIVE_FRAMES, MEAN_PAIRWISE
from vxp_data.encoders.thumbnail import ThumbnailEncoder


def unit(*degrees: float) -> NDArray[np.float64]:
    angle_N = np.deg2rad(degrees)
    return np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)


def test_a_rank_correlation_has_an_interval_over_clips() -> None:
    from encoder_figures import spearman

    rng = np.random.default_rng(1)
    one_N = rng.normal(size=37)
    other_N = one_N + rng.normal(size=37)
    found = spearman(one_N, other_N)
    rank_N, other_rank_N = one_N.argsort().argsort(), other_N.argsort().argsort()
    wanted = 1 - 6 * ((rank_N - other_rank_N) ** 2).sum() / (37 * (37**2 - 1))
    assert found["spearman"] == pytest.approx(wanted, abs=5e-4)
    assert found["low"] < found["spearman"] < found["high"]
    assert 0.2 < found["high"] - found["low"] < 0.7
    assert spearman(one_N, one_N) == {"spearman": 1.0, "low": 1.0, "high": 1.0}
    assert spearman(one_N, -one_N)["high"] == -1.0


def test_the_half_that_is_kept_is_the_least_redundant_whichever_way_the_measure_goes() -> None:
    from encoder_figures import kept, kept_by_subset

    names = ["a", "b", "c", "d"]
    assert kept(np.array([0.1, 0.9, 0.2, 0.8]), names, MEAN_PAIRWISE).tolist() == [
        True, False, True, False,
    ]  # fmt: skip
    assert kept(np.array([1.0, 9.0, 2.0, 8.0]), names, EFFECTIVE_FRAMES).tolist() == [
        False, True, False, True,
    ]  # fmt: skip
    subset_N = np.array(["x", "x", "y", "y"])
    score_N = np.array([0.1, 0.2, 0.8, 0.9])
    assert kept_by_subset(score_N, names, subset_N, MEAN_PAIRWISE).tolist() == [
        True, False, True, False,
    ]  # fmt: skip


def test_redundancy_is_compared_with_duration_not_the_score() -> None:
    from encoder_figures import with_duration

    duration_s_N = np.array([1.0, 2.0, 30.0, 40.0])
    names = ["a", "b", "c", "d"]
    frames = with_duration(np.array([2.0, 3.0, 7.0, 9.0]), duration_s_N, names, EFFECTIVE_FRAMES)
    cosines = with_duration(np.array([0.9, 0.8, 0.3, 0.1]), duration_s_N, names, MEAN_PAIRWISE)
    assert frames == cosines
    assert frames["spearman"] == -1
    assert (frames["kept_median_s"], frames["pruned_median_s"]) == (35, 1.5)


def test_clips_that_moved_most_come_first_with_both_ranks() -> None:
    from encoder_figures import moved_most

    found = moved_most(
        np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.1, 0.8, 0.7, 0.9]), list("abcd"), count=2
    )
    assert found == [
        {"clip": "a", "first": 1, "second": 4}, {"clip": "d", "first": 4, "second": 1},
    ]  # fmt: skip


def test_a_frame_is_compared_with_the_nearest_in_time_that_was_read() -> None:
    from encoder_figures import frame_cosines, nearest_in_time

    near_F = nearest_in_time(np.array([0.0, 1.0, 1.6, 4.0]), np.array([0.0, 3.0]))
    assert near_F.tolist() == [0, 0, 1, 1]
    cosine_F = frame_cosines(unit(0, 10, 80, 90), 3 * unit(0, 90), near_F)
    assert cosine_F == pytest.approx(np.cos(np.deg2rad([0, 10, 10, 0])))


def test_labelled_pairs_are_apart_from_all_others() -> None:
    from encoder_figures import pair_cosines, unit_mean

    assert unit_mean(unit(0, 60)) == pytest.approx(unit(30)[0])
    pairs = [
        {"first": "c", "second": "a", "kind": "different"},
        {"first": "a", "second": "not here", "kind": "same"},
    ]
    found = pair_cosines(unit(0, 60, 90), ["a", "b", "c"], pairs)
    assert found["labelled"] == [{**pairs[0], "cosine": 0.0}]
    assert found["others"]["pairs"] == 2
    assert found["others"]["median"] == pytest.approx((0.5 + np.cos(np.pi / 6)) / 2, abs=1e-3)
    assert found["others"]["nearest"][0] == {"first": "b", "second": "c", "cosine": 0.866}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("clips")
    for number in range(4):
        write_flat_video(
            folder / f"clip{number}.mp4",
            num_frames=30 + number,
            last_rgb=(128, 128 - 40 * number, 128 + 40 * number),
        )
    return folder


def test_a_clip_is_read_as_a_prune_reads_it(videos: Path) -> None:
    from encoder_clips import read_clip

    encoder = ThumbnailEncoder()
    exact = read_clip(videos / "clip0.mp4", encoder, "exact")
    assert exact.emb_FD.shape == (20, encoder.spec.dim)
    assert exact.emb_FD.dtype == np.float16
    assert (np.diff(exact.time_s_F) > 0).all()
    keys = read_clip(videos / "clip0.mp4", encoder, "keyframe")
    assert keys.time_s_F == pytest.approx([0.0, 1.2, 2.4])  # every 12th, ten frames a second


def test_the_comparison_is_composed_of_all_of_it(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import encoders_compared
    from encoder_clips import read_clips

    monkeypatch.setattr(encoders_compared, "ENCODERS", ("thumbnail", "again"))
    names = [path.name for path in sorted(videos.iterdir())]
    clips = read_clips(
        sorted(videos.iterdir()),
        {"thumbnail": ThumbnailEncoder(), "again": ThumbnailEncoder()},
        repeats=1,
    )
    figures: dict[str, Any] = encoders_compared.compare(clips, names, [MEAN_PAIRWISE])
    json.dumps(figures, allow_nan=False)
    same = figures["between_encoders"]["mean_pairwise"]
    assert same["spearman"] == 1
    assert same["change_side_at_keep_0.5"] == 0
    ways = figures["ways_of_seeking"]["thumbnail"]
    assert ways["keyframe"]["clips_with_other_frames"] == 4
    assert ways["keyframe"]["frames_read"] < ways["keyframe"]["frames_read_exact"] == 80
    assert figures["clips"]["clip2.mp4"]["thumbnail"] == figures["clips"]["clip2.mp4"]["again"]
