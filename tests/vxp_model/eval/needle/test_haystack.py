"""Drawn films and the user's own."""

from __future__ import annotations

import hashlib
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from support.mllm_videos import write_colours
from vxp_model.errors import UserError
from vxp_model.eval.needle.haystack import DrawnFilm, FileFilm


def digests(film: DrawnFilm, length: int, frame_px: int | None = None) -> list[str]:
    return [hashlib.sha256(f.tobytes()).hexdigest() for f in film.frames(length, frame_px=frame_px)]


def test_the_same_seed_draws_the_same_film_and_another_seed_another():
    once = digests(DrawnFilm(seed=3, side_px=96), 60)
    assert digests(DrawnFilm(seed=3, side_px=96), 60) == once
    assert digests(DrawnFilm(seed=3, side_px=96), 20) == once[:20]
    assert not set(digests(DrawnFilm(seed=4, side_px=96), 60)) & set(once)


def test_no_frame_comes_twice():
    assert len(set(digests(DrawnFilm(seed=0, side_px=96), 500))) == 500


def test_scenes_change_slowly_within_and_at_once_between_them():
    frames = [f.astype(int) for f in DrawnFilm(seed=0, side_px=96).frames(120, frame_px=None)]
    steps = [np.abs(a - b).mean() for a, b in pairwise(frames)]
    cuts = [index for index, step in enumerate(steps) if step > 25]
    scenes = np.diff(cuts)
    assert 8 <= len(cuts) <= 30
    assert scenes.min() >= 4
    assert np.median(steps) < 20


def test_frames_are_squashed_to_the_wanted_size():
    (frame,) = DrawnFilm(seed=0, side_px=96).frames(1, frame_px=56)
    assert frame.shape == (56, 56, 3)
    assert frame.dtype == np.uint8


def test_a_film_of_8192_frames_is_never_held():
    film = DrawnFilm(seed=0, side_px=96)
    tracemalloc.start()
    try:
        num = sum(1 for _ in film.frames(8192, frame_px=None))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert num == 8192
    assert peak_bytes < 8 << 20  # all of it: 226 MB


def test_the_users_film_gives_frames_at_equal_distances(tmp_path: Path):
    path = write_colours(tmp_path / "film.mp4", num_frames=40, fps=2)
    film = FileFilm(path)
    assert film.num_bytes == path.stat().st_size
    assert film.identity == {"film": "film.mp4", "num_bytes": film.num_bytes}
    times_s = film.time_s(10)
    assert len(times_s) == 10
    assert np.allclose(np.diff(times_s), np.diff(times_s)[0], atol=0.5)
    greys = [int(frame[20, 20, 0]) for frame in film.frames(10, frame_px=40)]
    wanted = [round(time_s * 2) * 37 % 256 for time_s in times_s]
    assert np.abs(np.subtract(greys, wanted)).max() <= 3


def test_a_film_with_fewer_frames_than_the_haystack_is_refused(tmp_path: Path):
    film = FileFilm(write_colours(tmp_path / "film.mp4", num_frames=40, fps=2))
    with pytest.raises(UserError, match=r"a haystack of 64 frames .* the film has 40"):
        film.time_s(64)
