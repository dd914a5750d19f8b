"""Pairs of clips: as numbers those of a plain loop, and the same ones whoever compares."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.duplicate_clips import clip, film
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.neighbours import base
from vxp_data.pipeline.curate import compare_frames, pair_workers
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


def videos():
    """Thirty films, each once more with a little noise, and a third of them as a part of them."""
    rng = np.random.default_rng(1)
    found = {}
    for number in range(30):
        path = film(number, 40, speed=0.25)
        emb_FD, times = clip(path)
        noisy = emb_FD + rng.normal(size=emb_FD.shape) * 0.005
        noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
        half, half_times = clip(path, 10, 26)
        found[f"{number}.mp4"] = stored(emb_FD, times, seed=number)
        found[f"{number}-copy.mp4"] = stored(noisy, times, seed=100 + number, width_px=320)
        if number % 3 == 0:
            found[f"{number}-part.mp4"] = stored(half, half_times, seed=200 + number)
    return found


def stored(emb_FD, times, seed, **more):
    """Beside the encoder's vectors `thumbnail`'s, of which a copy has those of its film."""
    beside = np.random.default_rng(seed % 100).normal(size=(len(emb_FD), 960))
    beside /= np.linalg.norm(beside, axis=1, keepdims=True)
    facts = {"duration_s": times.duration_s, "beside_FD": beside.astype(np.float32)}
    return StoredClip(emb_FD=emb_FD, **facts, **more)


def duplicates(folder, clips, monkeypatch, *, in_processes=False, clusters=True):
    monkeypatch.setattr(base, "FLAT_VECTORS", 3 if clusters else 1000)
    monkeypatch.setattr(pair_workers, "IN_PROCESSES_FROM", 1 if in_processes else 1000)
    monkeypatch.setattr(compare_frames, "TASK_PAIRS", 7)
    run = stored_run(folder, clips)
    decide(run, duplicates__mode="report")
    rows = pq.read_table(str(run.duplicates)).to_pylist()
    for row in rows:
        for name in ("uri", "representative_uri"):
            row[name] = row[name].split("/")[-1]
    return rows


def test_clusters_find_the_duplicates_that_comparing_all_finds(tmp_path, monkeypatch):
    found = duplicates(tmp_path / "clusters", videos(), monkeypatch)
    assert found == duplicates(tmp_path / "all", videos(), monkeypatch, clusters=False)
    reasons = [row["reason"] for row in found]
    assert reasons.count("near_duplicate") == 30
    assert reasons.count("contained") >= 5
    assert {row["found_by"] for row in found} == {"encoder", "encoder+thumbnail"}


def test_processes_and_the_order_of_clips_change_no_duplicate(tmp_path, monkeypatch):
    found = duplicates(tmp_path / "here", videos(), monkeypatch)
    clips = videos()
    turned = {name: clips[name] for name in reversed(clips)}
    asked = []
    real = pair_workers.open_engine
    monkeypatch.setattr(pair_workers, "open_engine", lambda c: asked.append(os.getpid()) or real(c))
    assert duplicates(tmp_path / "there", turned, monkeypatch, in_processes=True) == found
    assert asked == [os.getpid()]
