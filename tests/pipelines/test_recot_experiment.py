"""The comparison of maskings, and the benchmark of training: what they measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.recot_runs import recipe_file, training_shards
from support.repo import BENCH


def test_only_tokens_that_the_patch_covers_or_leaves_change() -> None:
    from sgm_clips import MOTIONS, draw_clip

    for motion in MOTIONS:
        clip = draw_clip(motion, np.random.default_rng(3))
        change_THW = np.abs(np.diff(clip.frames_THWC.astype(int), axis=0)).sum(-1)
        change_TN = change_THW.reshape(-1, 4, 14, 4, 14).sum((2, 4)).reshape(-1, 16)
        touched_TN = (clip.cover_TN[1:] > 0) | (clip.cover_TN[:-1] > 0)
        assert not change_TN[~touched_TN].any()
        assert change_TN.any() == (motion != "still")
        np.testing.assert_allclose(clip.cover_TN.sum(-1), 16**2 / 14**2, rtol=1e-5)


def test_the_patch_moves_as_its_class_says() -> None:
    from sgm_clips import MOTIONS, draw_clip

    for motion, way in MOTIONS.items():
        clip = draw_clip(motion, np.random.default_rng(5))
        index_TN = clip.cover_TN / clip.cover_TN.sum(-1, keepdims=True)
        column, row = np.arange(16) % 4, np.arange(16) // 4
        moved = [float((index_TN[-1] - index_TN[0]) @ axis) for axis in (column, row)]
        assert [np.sign(round(m, 3)) for m in moved] == list(way)


def test_the_auc_is_one_for_scores_of_the_truth_and_a_half_for_none() -> None:
    from sgm_clips import MOTIONS, draw_clip, score_auc

    rng = np.random.default_rng(0)
    clips = [draw_clip(motion, rng) for motion in MOTIONS]
    cover_FN = np.concatenate([clip.cover_TN for clip in clips])
    assert score_auc(cover_FN, clips) == 1.0
    assert score_auc(-cover_FN, clips) == 0.0
    assert score_auc(np.ones_like(cover_FN), clips) == 0.5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_benchmark_books_a_whole_step_to_its_parts(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path / "r.yaml", training_shards(tmp_path / "s"), tmp_path / "run")
    script = (
        "import sys, records, recot; from pathlib import Path; "
        "write = records.write_record; "
        "records.write_record = lambda *a, **k: write(*a, folder=Path(sys.argv[1]), **k); "
        "recot.main([sys.argv[2], '--steps', '3', '--warmup', '1'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs"), str(recipe)],
        cwd=BENCH, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "runs" / "recot-tiny-cpu.json").read_text())["figures"]
    assert all(seconds > 0 for seconds in figures["parts_s"].values())
    assert sum(figures["parts_s"].values()) == pytest.approx(figures["step_s"], rel=1.0)
