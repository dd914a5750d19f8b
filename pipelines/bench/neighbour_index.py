"""Time an index of vectors in a file, and check it against brute force; see duplicates.py."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from vxp_data.neighbours.choose import build_index

BLOCK_VECTORS: Final = 20_000
VECTORS_PER_COPY: Final = 50


def index(num_vectors: int, dim: int) -> dict[str, Any]:
    """Time an index over vectors in a file, with planted neighbours; recall on a sample."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "vectors.npy"
        emb_ND = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float16, shape=(num_vectors, dim)
        )
        _fill(emb_ND, rng)
        emb_ND.flush()
        started_s, cpu_s = time.monotonic(), time.process_time()
        vectors = build_index(emb_ND)
        built_s, built_cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        started_s, cpu_s = time.monotonic(), time.process_time()
        for start in range(0, num_vectors, 1 << 15):
            vectors.search(emb_ND[start : start + (1 << 15)], 33, 0.93)
        searched_s, searched_cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        recall, num_pairs = _recall(emb_ND, vectors, _sample(num_vectors, rng))
    return {
        "kind": vectors.kind,
        "vectors": num_vectors,
        "dim": dim,
        "build_s": round(built_s, 1),
        "build_cpu_s": round(built_cpu_s, 1),
        "search_s": round(searched_s, 1),
        "search_cpu_s": round(searched_cpu_s, 1),
        "peak_rss_mib": round(peak_mib),
        "recall_of_neighbours": round(recall, 4),
        "neighbours_in_sample": num_pairs,
    }


def _fill(emb_ND: np.ndarray[Any, Any], rng: np.random.Generator) -> None:
    """Vectors around 2000 centres; each fiftieth is a copy of another, off by up to cosine 0.94."""
    dim = emb_ND.shape[1]
    centre_CD = _unit(rng.normal(size=(2000, dim)).astype(np.float32))
    for start in range(0, len(emb_ND), BLOCK_VECTORS):
        num = min(BLOCK_VECTORS, len(emb_ND) - start)
        noise_ND = rng.normal(size=(num, dim)).astype(np.float32) * (0.7 / dim**0.5)
        block_ND = _unit(centre_CD[rng.integers(2000, size=num)] + noise_ND)
        copies = num // VECTORS_PER_COPY
        off = rng.uniform(0.05, 0.35, size=(copies, 1)) / dim**0.5
        noise_ND = rng.normal(size=(copies, dim)) * off
        block_ND[num - copies :] = _unit(block_ND[:copies] + noise_ND)
        emb_ND[start : start + num] = block_ND


def _sample(num_vectors: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Choose 5,000 vectors to ask for, half of them copies: of all, few have a neighbour."""
    last_N = np.arange(BLOCK_VECTORS - BLOCK_VECTORS // VECTORS_PER_COPY, BLOCK_VECTORS)
    copies_N = (np.arange(0, num_vectors, BLOCK_VECTORS)[:, None] + last_N).ravel()
    copies_N = rng.permutation(copies_N[copies_N < num_vectors])[:2500]
    return np.unique(np.concatenate([copies_N, rng.permutation(num_vectors)[:2500]]))


def _unit(emb_ND: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    unit_ND: np.ndarray[Any, Any] = emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return unit_ND


def _recall(
    emb_ND: np.ndarray[Any, Any], vectors: Any, sample: np.ndarray[Any, Any]
) -> tuple[float, int]:
    """Return the share of the true neighbours (cosine 0.93) of a sample that are found."""
    queries = emb_ND[sample].astype(np.float32)
    truth: set[tuple[int, int]] = set()
    for start in range(0, len(emb_ND), BLOCK_VECTORS):
        cosine = queries @ emb_ND[start : start + BLOCK_VECTORS].astype(np.float32).T
        query, row = np.nonzero(cosine >= 0.93)
        truth |= set(zip(query.tolist(), (row + start).tolist(), strict=True))
    truth -= set(enumerate(sample.tolist()))
    _, row_BK = vectors.search(queries, 33, 0.93)
    got = {(query, row) for query, rows in enumerate(row_BK.tolist()) for row in rows if row >= 0}
    return len(truth & got) / max(1, len(truth)), len(truth)
