"""Time an index of vectors in a file, and check it against brute force; see duplicates.py."""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from vxp_data.engines.base import Engine
from vxp_data.engines.local.engine import LocalEngine
from vxp_data.neighbours.base import Workers
from vxp_data.neighbours.choose import build_index
from vxp_data.settings.cluster import ClusterConfig

BLOCK_VECTORS: Final = 20_000
VECTORS_PER_COPY: Final = 50
MIN_COSINE: Final = 0.93
NEIGHBOURS: Final = 33
OTHER_QUERIES: Final = 100_000
_SAMPLE_S: Final = 0.5


def index(
    sizes: Sequence[int], dim: int, num_cpus: int | None, write: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    """Time an index at each size, written as soon as it is measured.

    Args:
        sizes: numbers of vectors, ascending.
        dim: their width.
        num_cpus: processes; None: one a core.
        write: takes the figures so far.
    """
    figures: dict[str, Any] = {"dim": dim, "sizes": []}
    for num_vectors in sizes:
        figures["sizes"].append(_measured(num_vectors, dim, num_cpus))
        if len(figures["sizes"]) > 1:
            figures["cpu_s_exponent"] = _exponent(figures["sizes"])
        print(figures["sizes"][-1], flush=True)
        write(figures)
    return figures


def _exponent(sizes: Sequence[dict[str, Any]]) -> float:
    """Return the power of the number of vectors that the CPU time grows with: the slope of logs."""
    num_N = np.log([size["vectors"] for size in sizes])
    cpu_s_N = np.log([size["build_cpu_s"] + size["search_cpu_s"] for size in sizes])
    return round(float(np.polyfit(num_N, cpu_s_N, 1)[0]), 2)


def _measured(num_vectors: int, dim: int, num_cpus: int | None) -> dict[str, Any]:
    """Time an index over vectors in a file, with planted neighbours; recall on a sample."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch, _temporary_files_in(scratch):
        path = Path(scratch) / "vectors.npy"
        shape = (num_vectors, dim)
        emb_ND = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        _fill(emb_ND, rng)
        emb_ND.flush()
        sample = _sample(num_vectors, rng)
        with LocalEngine(ClusterConfig(num_cpus=num_cpus)) as engine, _Peak() as peak:
            figures, row_BK = _timed(emb_ND, engine, sample)
        recall, num_pairs = _recall(emb_ND, sample, row_BK)
    return {
        "vectors": num_vectors,
        "processes": num_cpus or len(os.sched_getaffinity(0)),
        **figures,
        "peak_mib_of_the_command": round(peak.own_mib),
        "peak_mib_of_a_worker": round(peak.worker_mib),
        "peak_rss_mib_with_mapped_files": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "recall_of_neighbours": round(recall, 4),
        "neighbours_in_sample": num_pairs,
    }


def _timed(
    emb_ND: np.ndarray[Any, Any], engine: Engine, sample: np.ndarray[Any, Any]
) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Build, and search for all vectors, and for some that are none of the index's."""
    workers = Workers(run_tasks=engine.run_tasks, share_files=True)
    started_s, cpu_s = time.monotonic(), _tree_cpu_s()
    with build_index(emb_ND, MIN_COSINE, workers) as vectors:
        built_s, built_cpu_s = time.monotonic() - started_s, _tree_cpu_s() - cpu_s
        print(f"{len(emb_ND)}: built in {built_cpu_s:.0f} CPU-s", flush=True)
        started_s, cpu_s = time.monotonic(), _tree_cpu_s()
        rows = []
        for start in range(0, len(emb_ND), vectors.queries_at_once):
            row_B = np.arange(start, min(len(emb_ND), start + vectors.queries_at_once))
            _, row_BK = vectors.search_rows(row_B, NEIGHBOURS, MIN_COSINE)
            rows.append(row_BK[sample[(sample >= start) & (sample <= row_B[-1])] - start])
        searched_s, searched_cpu_s = time.monotonic() - started_s, _tree_cpu_s() - cpu_s
        cpu_s = _tree_cpu_s()
        vectors.search(emb_ND[:: max(1, len(emb_ND) // OTHER_QUERIES)], NEIGHBOURS, MIN_COSINE)
        others_cpu_s = _tree_cpu_s() - cpu_s
        kind, files_mib = vectors.kind, _size_mib(Path(tempfile.gettempdir()))
    figures = {
        "kind": kind,
        "build_s": round(built_s, 1),
        "build_cpu_s": round(built_cpu_s, 1),
        "search_s": round(searched_s, 1),
        "search_cpu_s": round(searched_cpu_s, 1),
        "search_of_100000_others_cpu_s": round(others_cpu_s, 1),
        "temporary_files_mib": files_mib,
    }
    return figures, np.concatenate(rows)


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _size_mib(folder: Path) -> int:
    """Return what the files of a folder take while the index is there; vectors included."""
    return round(sum(path.stat().st_size for path in folder.rglob("*")) / 2**20)


def _tree_cpu_s() -> float:
    """Return the CPU time of this process, of those it has started, and of those that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


class _Peak:
    """Samples memory that processes hold for themselves: without files that they map."""

    def __init__(self) -> None:
        self.own_mib = self.worker_mib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.own_mib = max(self.own_mib, _anonymous_mib(os.getpid()))
            for child in psutil.Process().children(recursive=True):
                self.worker_mib = max(self.worker_mib, _anonymous_mib(child.pid))


def _anonymous_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


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
    emb_ND: np.ndarray[Any, Any], sample: np.ndarray[Any, Any], row_BK: np.ndarray[Any, Any]
) -> tuple[float, int]:
    """Return the share of the true neighbours (cosine 0.93) of a sample that were found."""
    queries = emb_ND[sample].astype(np.float32)
    truth: set[tuple[int, int]] = set()
    for start in range(0, len(emb_ND), BLOCK_VECTORS):
        cosine = queries @ emb_ND[start : start + BLOCK_VECTORS].astype(np.float32).T
        query, row = np.nonzero(cosine >= MIN_COSINE)
        truth |= set(zip(query.tolist(), (row + start).tolist(), strict=True))
    truth -= set(enumerate(sample.tolist()))
    got = {(query, row) for query, rows in enumerate(row_BK.tolist()) for row in rows if row >= 0}
    return len(truth & got) / max(1, len(truth)), len(truth)
