"""Rows with several media: one score, one outcome; no video is opened for it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.duplicate_clips import clip, film
from support.runs import by_sample, caption_row, table
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.core.similarity import MEAN_PAIRWISE
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.verify.run import verify_run


def stored(path, **more) -> StoredClip:
    emb_FD, times = clip(path, 0.0, None)
    return StoredClip(emb_FD=emb_FD, duration_s=times.duration_s, **more)


def noisy(given: StoredClip, **more) -> StoredClip:
    """Another encoding of a clip: every frame a little off."""
    noise = np.random.default_rng(0).normal(size=given.emb_FD.shape) * 0.005
    emb_FD = given.emb_FD + noise
    emb_FD /= np.linalg.norm(emb_FD, axis=1, keepdims=True)
    return StoredClip(emb_FD=emb_FD, duration_s=given.duration_s, **more)


SLOW = {"speed": 0.25}
A, B, C = (stored(film(seed, 40, **SLOW)) for seed in (1, 2, 3))
IMAGE = StoredClip(emb_FD=A.emb_FD[:1], duration_s=0.0)


def several_row(row_id: str, *names: str) -> dict:
    """A caption of several media: videos, then images."""
    row = caption_row(row_id, "")
    del row["video"]
    markers = ["<image>" if name.endswith(".png") else "<video>" for name in names]
    row["conversations"][0]["value"] = "\n".join([*markers, "Describe them."])
    row["videos"] = [name for name in names if not name.endswith(".png")]
    row["images"] = [name for name in names if name.endswith(".png")]
    return {name: value for name, value in row.items() if value}


def clips_of(**facts) -> dict[str, StoredClip]:
    return {
        "a.mp4": A,
        "b.mp4": B,
        "c.mp4": C,
        "a-copy.mp4": noisy(A, width_px=320, height_px=180),
        "b-same.mp4": StoredClip(emb_FD=B.emb_FD, duration_s=B.duration_s, media_id="id-of-b.mp4"),
        "one.png": IMAGE,
        "two.png": StoredClip(emb_FD=B.emb_FD[:1], duration_s=0.0, **facts),
    }


ROWS = [
    several_row("ab", "a.mp4", "b.mp4"),
    several_row("ab-again", "a.mp4", "b.mp4"),
    several_row("ba", "b.mp4", "a.mp4"),
    several_row("copies", "a-copy.mp4", "b-same.mp4"),
    several_row("a-and-image", "a.mp4", "one.png"),
    several_row("copy-and-image", "a-copy.mp4", "one.png"),
    several_row("images", "one.png", "two.png"),
    several_row("abc", "a.mp4", "b.mp4", "c.mp4"),
    caption_row("a-alone", "a.mp4"),
]


def mean_cosine(*clips: StoredClip) -> float:
    """Brute force: the mean over all pairs of the frames of all clips."""
    frames = np.concatenate([one.emb_FD.astype(np.float16).astype(np.float64) for one in clips])
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    pairs = [frames[i] @ frames[j] for i in range(len(frames)) for j in range(i)]
    return float(np.mean(pairs))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return stored_run(tmp_path, clips_of(), ROWS)


def test_the_score_is_over_the_frames_of_all_videos(run: RunDirectory, tmp_path: Path) -> None:
    decide(run)
    scores = by_sample(tmp_path / "run", "score")
    wanted = {
        "ab": mean_cosine(A, B),
        "ba": mean_cosine(B, A),
        "abc": mean_cosine(A, B, C),
        "a-and-image": mean_cosine(A),  # an image does not count
        "a-alone": mean_cosine(A),
    }
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert by_sample(tmp_path / "run", "reason")["images"] == "image"
    assert verify_run(run, media=False).problems == []


def test_a_threshold_cuts_them_as_one(run: RunDirectory, tmp_path: Path) -> None:
    cut = (mean_cosine(A, B) + mean_cosine(A)) / 2
    decide(run, thresholds__default=str(cut))
    decisions = by_sample(tmp_path / "run", "decision")
    assert [name for name, decision in decisions.items() if decision == "prune"] == [
        "a-and-image",
        "copy-and-image",
        "a-alone",
    ]


def test_one_medium_that_fails_quarantines_the_row(tmp_path: Path) -> None:
    failed = {"reason": "missing", "message": "no file"}
    run = stored_run(tmp_path, clips_of(facts=failed), ROWS)
    decide(run)
    lost = {row["sample_id"]: row for row in table(tmp_path / "run", "quarantine")}
    assert list(lost) == ["rows/images"]
    assert lost["rows/images"]["message"] == f"{tmp_path}/two.png: no file"
    assert verify_run(run, media=False).problems == []


def test_a_filter_must_hold_for_each_medium(tmp_path: Path) -> None:
    run = stored_run(tmp_path, clips_of(), ROWS)
    decide(run, filters__short_side_px__min=200)
    reasons = by_sample(tmp_path / "run", "reason")
    small = [name for name, reason in reasons.items() if reason == "low_resolution"]
    assert small == ["copies", "copy-and-image"]  # one of their media is a copy of 180 lines
    values = {
        row["sample_id"]: row["short_side_px"]
        for row in pq.read_table(str(run.filter_values)).to_pylist()
    }
    assert (values["rows/copies"], values["rows/ab"]) == (180.0, 360.0)
    assert verify_run(run, media=False).problems == []


def test_a_duplicate_has_a_counterpart_for_every_medium_in_order(
    run: RunDirectory, tmp_path: Path
) -> None:
    decide(run, duplicates__mode="drop")
    reasons = by_sample(tmp_path / "run", "reason")
    doubled = {name: reason for name, reason in reasons.items() if "duplicate" in reason}
    assert doubled == {"copies": "near_duplicate", "copy-and-image": "near_duplicate"}
    assert by_sample(tmp_path / "run", "duplicate_of")["copies"].endswith("/a.mp4")
    assert verify_run(run, media=False).problems == []


def test_what_is_said_of_one_clip_says_nothing_of_rows_with_several(tmp_path: Path) -> None:
    rows = [
        caption_row("a-alone", "a.mp4"),
        caption_row("copy-alone", "a-copy.mp4"),
        several_row("copy-and-c", "a-copy.mp4", "c.mp4"),
    ]
    clips = {
        name: one for name, one in clips_of().items() if name in ("a.mp4", "a-copy.mp4", "c.mp4")
    }
    run = stored_run(tmp_path, clips, rows)
    decide(run, duplicates__mode="relink")
    assert by_sample(tmp_path / "run", "duplicate_of")["copy-alone"].endswith("/a.mp4")
    assert by_sample(tmp_path / "run", "duplicate_of")["copy-and-c"] == ""
    assert verify_run(run, media=False).problems == []


def test_scores_that_are_changed_are_seen(run: RunDirectory, tmp_path: Path) -> None:
    decide(run)
    path = tmp_path / "run" / "row_scores.parquet"
    scores = pq.read_table(path)
    index = scores.column_names.index(MEAN_PAIRWISE.name)
    values = scores[MEAN_PAIRWISE.name].to_pylist()
    changed = scores.set_column(index, MEAN_PAIRWISE.name, [[values[0] + 1e-3, *values[1:]]])
    pq.write_table(changed, path)
    problems = verify_run(run, media=False).problems
    assert any("row_scores.parquet: rows/ab: mean_pairwise" in problem for problem in problems)
