"""Clips, manifests and runs of selector_board.py: what `vxp-data` makes of its pools.

OUT/videos/        every clip once
OUT/bank/run       all clips, a row each; OUT/bank/shards has the images that models see
OUT/pools/run      all pools of all seeds, a task subset each: what is chosen from
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import records
from selector_pools import BenchClip, BenchRow, Pool
from sgm_clips import SIDE_PX, write_frames
from table7_clips import FPS

from vxp_data.cli import app
from vxp_data.engines.choose import one_engine
from vxp_data.settings.prune import load_config

CURATION: Final = records.ROOT / "pipelines" / "demo.yaml"
NUM_FRAMES: Final = 8
"""Of a clip, uniform, that selectors and models see."""
BUDGETS: Final = (0.1, 0.25, 0.5)
SELECTORS: Final = (
    "random", "intra", "intra_by_duration", "cluster_quota", "decorrelate", "gdo_lite", "coverage",
    "text_blind",
)  # fmt: skip
ENCODER: Final = "efficientnet_lite0"

Pools = Mapping[tuple[str, int], Pool]
"""By pool and seed."""
Chosen = dict[tuple[str, float, str, int], list[str]]
"""Sample ids by selector, budget, pool and seed."""


def subset(pool: str, seed: int) -> str:
    """Return the name of a pool's dataset, which is its task subset too."""
    return f"{pool}-{seed}"


def sample_id(pool: str, seed: int, position: int) -> str:
    """Return the id of a pool's row, by its place there."""
    return f"{subset(pool, seed)}/{position:05d}"


def prepare(pools: Pools, out: Path) -> None:
    """Write the clips, embed those of the pools, and shard all of them."""
    rows = [row for pool in pools.values() for row in (*pool.rows, *pool.heldout)]
    clips = {row.clip.name: row.clip for row in rows}
    _write_clips(clips.values(), out / "videos")
    exchange = [{"from": "human", "value": "<video>\nWhat is seen?"}, {"from": "gpt", "value": "A"}]
    bank = [_entry(name, name, exchange) for name in sorted(clips)]
    mixtures = {
        "bank": _write_mixture({"bank": bank}, out / "bank"),
        "pools": _write_mixture(
            {subset(*key): _entries(pool.rows) for key, pool in pools.items()}, out / "pools"
        ),
    }
    with one_engine(load_config(CURATION, []).config.cluster):
        for name, encoder in (("bank", "thumbnail"), ("pools", ENCODER)):
            curate("prune", str(mixtures[name]), "--out", str(out / name / "run"), "--recipe",
                   str(CURATION), "--encoder", encoder, "--keep", "1.0",
                   "--set", f"frames.num_frames={NUM_FRAMES}")  # fmt: skip
        _shard(str(out / "bank" / "run"), out / "bank" / "shards")


def shard_rows(rows: Sequence[BenchRow], folder: Path) -> None:
    """Write shards with all of some rows, a task subset a question: FOLDER/shards."""
    _write_clips({row.clip.name: row.clip for row in rows}.values(), folder / "videos")
    by_task: dict[str, list[dict[str, Any]]] = {}
    for entry, row in zip(_entries(rows), rows, strict=True):
        by_task.setdefault(row.task, []).append(entry)
    run = str(folder / "run")
    curate("prune", str(_write_mixture(by_task, folder / "rows")), "--out", run, "--recipe",
           str(CURATION), "--encoder", "thumbnail", "--keep", "1.0")  # fmt: skip
    _shard(run, folder / "shards")


def choose(out: Path, scores: Path, pools: Pools) -> Chosen:
    """Decide with every selector and budget about all pools, from one scoring.

    Args:
        out: see `prepare`.
        scores: for the selector that needs some.
        pools: what the run is of.

    Raises:
        RuntimeError: a budget is not met exactly, or a row is quarantined.
    """
    run = str(out / "pools" / "run")
    chosen: Chosen = {}
    for selector in SELECTORS:
        for budget in BUDGETS:
            words = ["--select", selector, "--keep", f"{budget}"]
            if selector == "text_blind":
                words += ["--scores", str(scores), "--scorer", "blind@1"]
            curate("decide", run, *words)
            kept = _kept(run)
            for (pool, seed), own in pools.items():
                ids = kept[subset(pool, seed)]
                if len(ids) != round(budget * len(own.rows)):
                    raise RuntimeError(f"{selector} at {budget}: {len(ids)} rows of {pool}")
                chosen[selector, budget, pool, seed] = ids
    return chosen


def curate(*words: str) -> None:
    """Run a command of vxp-data here."""
    app(list(words), standalone_mode=False)


def _shard(run: str, shards: Path) -> None:
    """Shard a run's kept rows as the images that models see."""
    curate("sample", run, "--set", "sampling.policy=uniform_n",
           "--set", f"sampling.num_frames={NUM_FRAMES}")  # fmt: skip
    curate("shard", run, "--out", str(shards), "--payload", "frames",
           "--set", f"shard.frame_px={SIDE_PX}")  # fmt: skip


def _kept(run: str) -> dict[str, list[str]]:
    rows = pq.read_table(
        f"{run}/decisions.parquet", columns=["sample_id", "task", "decision"]
    ).to_pylist()
    kept: dict[str, list[str]] = {}
    for row in rows:
        if row["decision"] == "quarantine":
            raise RuntimeError(f"{run}: {row['sample_id']} is quarantined")
        if row["decision"] == "keep":
            kept.setdefault(row["task"], []).append(row["sample_id"])
    return kept


def _write_clips(clips: Iterable[BenchClip], folder: Path) -> None:
    for clip in clips:
        write_frames(clip.frames_THWC, folder / f"{clip.name}.mp4", fps=FPS, crf=clip.crf)


def _entries(rows: Sequence[BenchRow]) -> list[dict[str, Any]]:
    return [_entry(f"{n:05d}", row.clip.name, row.exchange()) for n, row in enumerate(rows)]


def _entry(name: str, clip: str, exchange: list[dict[str, str]]) -> dict[str, Any]:
    return {"id": name, "video": f"{clip}.mp4", "conversations": exchange}


def _write_mixture(rows: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> Path:
    """Write manifests, and a mixture in which each is a dataset and a task subset."""
    folder.mkdir(parents=True)
    lines = ["datasets:"]
    for name, own in rows.items():
        (folder / f"{name}.json").write_text(json.dumps(own, indent=1), encoding="utf-8")
        lines.append(f"  - {{name: {name}, manifest: {name}.json, media_root: ../videos, "
                     f"task: {name}}}")  # fmt: skip
    mixture = folder / "mixture.yaml"
    mixture.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return mixture
