"""Clips of made-up films, as frame embeddings: what a search for duplicates reads."""

import numpy as np

from vxp_data.core.duplicates import ClipTimes

DIM = 64
FPS = 8


def film(seed, duration_s, *, speed=1.0):
    """A path on the sphere, FPS points a second: near moments look alike, far ones do not."""
    rng = np.random.default_rng(seed)
    knots = rng.normal(size=(int(duration_s * speed) + 3, DIM))
    at = np.arange(int(duration_s * FPS)) / FPS * speed
    first, part = at.astype(int), (at % 1)[:, None]
    path = (1 - part) * knots[first] + part * knots[first + 1]
    return path / np.linalg.norm(path, axis=1, keepdims=True)


def clip(path, start_s=0.0, end_s=None, num_frames=20):
    """The clip of a film from start to end, as its uniform frames."""
    low, high = int(start_s * FPS), len(path) if end_s is None else int(end_s * FPS)
    index = np.round(np.linspace(low, high - 1, num_frames)).astype(int)
    times = ClipTimes(time_s_F=(index - low) / FPS, duration_s=(high - low) / FPS)
    return path[index].astype(np.float16), times
