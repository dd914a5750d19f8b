"""What every selector must stand: ties, one row, all alike, unknown facts, any order of rows."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.selectors.base import Candidates, Selector, digest, select
from vxp_data.core.similarity import Measure
from vxp_data.core.thresholds import ThresholdSpec, cut

SCALE = Measure(
    name="selected", redundant_when="low", low=-np.inf, high=np.inf, one_frame=0.0,
    of_cosines=lambda cosine_VFF: cosine_VFF[:, 0, 0],
)  # fmt: skip


def unit_means(num: int, *, dim: int = 24, seed: int = 0) -> NDArray[np.float16]:
    """Draw clips in a few clusters, as stored: float16."""
    rng = np.random.default_rng(seed)
    centre_KD = rng.standard_normal((max(1, num // 8), dim))
    mean_CD = centre_KD[rng.integers(0, len(centre_KD), num)] + 0.5 * rng.standard_normal(
        (num, dim)
    )
    return (mean_CD / np.linalg.norm(mean_CD, axis=1, keepdims=True)).astype(np.float16)


def candidates_of(num_clips: int = 40, rows_of_each: int = 2, **facts: Any) -> Candidates:
    """Return rows about clips, drawn; a fact can be given."""
    rng = np.random.default_rng(1)
    num = num_clips * rows_of_each
    values: dict[str, Any] = {
        "sample_id_N": np.array([f"row-{n:05d}" for n in range(num)], object),
        "clip_N": np.arange(num) // rows_of_each,
        "dataset_N": np.array([f"set-{n % 3}" for n in range(num)], object),
        "needs_time_N": (rng.random(num) < 0.3).astype(np.float64),
        "outside_N": rng.integers(0, 5, num) / 4,
        "clip_name_C": np.array([f"clip-{n:05d}" for n in range(num_clips)], object),
        "redundancy_C": rng.random(num_clips),
        "duration_s_C": rng.uniform(1, 100, num_clips),
        "change_C": rng.uniform(0, 50, num_clips),
        "effective_frames_C": rng.uniform(1, 20, num_clips),
        "mean_CD": unit_means(num_clips),
    }
    return Candidates(**{**values, **facts})


def shuffled(candidates: Candidates, seed: int = 3) -> tuple[NDArray[np.intp], Candidates]:
    """Return the same rows and clips in another order, and where each row was."""
    rng = np.random.default_rng(seed)
    row_N, clip_C = rng.permutation(len(candidates)), rng.permutation(candidates.num_clips)
    place_C = np.argsort(clip_C)
    values = {f.name: getattr(candidates, f.name) for f in fields(candidates)}
    values |= {n: v[clip_C] for n, v in values.items() if n.endswith(("_C", "_CD"))}
    values |= {n: v[row_N] for n, v in values.items() if n.endswith("_N")}
    values["clip_N"] = place_C[values["clip_N"]]
    return row_N, Candidates(**values)


def kept(selector: Selector, candidates: Candidates, number: int) -> set[str]:
    """Return the rows that are kept of so many."""
    score_N = select(selector, candidates)
    names = candidates.sample_id_N.tolist()
    done = cut(ThresholdSpec("count", float(number)), score_N, names, SCALE)
    return set(candidates.sample_id_N[done.keep_N].tolist())


def kinds() -> dict[str, Candidates]:
    """Return candidates of all kinds: few, alike, with nothing known, with twins."""
    usual = candidates_of()
    one = np.ones(usual.num_clips)
    alike = {
        name: 0 * getattr(usual, name) + 0.5
        for name in ("redundancy_C", "duration_s_C", "change_C", "effective_frames_C",
                     "needs_time_N", "outside_N")
    }  # fmt: skip
    mean_CD = np.repeat(usual.mean_CD[:1], usual.num_clips, axis=0)
    twins_CD = usual.mean_CD.copy()
    twins_CD[1::2] = twins_CD[::2]
    unknown = {"change_C": one * np.nan, "needs_time_N": usual.needs_time_N * np.nan}
    return {
        "usual": usual,
        "one row": candidates_of(1, 1),
        "two rows of one clip": candidates_of(1, 2),
        "no row": candidates_of(0, 1, mean_CD=np.zeros((0, 24), np.float16)),
        "all alike": replace(usual, mean_CD=mean_CD, **alike),
        "nothing known": replace(usual, **unknown),
        "means of nothing": replace(usual, mean_CD=0 * usual.mean_CD),
        "twins": replace(usual, mean_CD=twins_CD, redundancy_C=usual.redundancy_C // 0.5),
        "many": candidates_of(700, 1),
    }


def check_selector(selector: Selector) -> None:
    """Check all that a selector promises.

    Raises:
        AssertionError: it does not keep it.
    """
    for kind, candidates in kinds().items():
        with np.errstate(all="raise", under="ignore"):
            score_N = select(selector, candidates)
        assert score_N.shape == (len(candidates),), kind
        assert np.isfinite(score_N).all(), kind
        assert (score_N == select(selector, candidates)).all(), f"{kind}: not deterministic"
        row_N, other = shuffled(candidates)
        assert (select(selector, other) == score_N[row_N]).all(), f"{kind}: order changes it"
        assert digest(selector, other) == digest(selector, candidates), kind
        if selector.of == "clips" and len(candidates):
            of_clip = {}
            for clip, score in zip(candidates.clip_N.tolist(), score_N.tolist(), strict=True):
                assert of_clip.setdefault(clip, score) == score, f"{kind}: a clip is taken apart"
        before: set[str] = set()
        for number in sorted({*range(0, len(candidates) + 1, 7), len(candidates)}):
            now = kept(selector, candidates, number)
            assert len(now) == number, f"{kind}: {len(now)} of {number} rows"
            assert before <= now, f"{kind}: more to keep drops what less keeps"
            before = now
