"""Prune and shard in the test's own process and Ray, and look at what was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.pipeline.prune import Observer, PruneResult, prune
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.shard.command import ShardObserver, ShardResult, shard_run
from vxp_data.settings.prune import load_config
from vxp_data.storage.folder import open_folder


def run_prune(
    manifests: Sequence[Path | str] | Path | str,
    out: Path | str,
    media_root: Path | str | None = None,
    **settings: Any,
) -> PruneResult:
    """Prune with the thumbnail encoder; a setting's name has '__' for its dots.

    However many rows cannot be used: few rows are written for many tests, of which some are bad.
    """
    paths = [manifests] if isinstance(manifests, Path | str) else list(manifests)
    values = {"encoder__name": "thumbnail", "manifest__max_bad_share": 1, **settings}
    overrides = [(key.replace("__", "."), value, "test") for key, value in values.items()]
    loaded = load_config(None, overrides)
    return prune(resolve_datasets(paths, media_root), loaded, out, Observer())


def table(out: Path, name: str) -> list[dict[str, Any]]:
    """Read one of a run's Parquet files."""
    rows: list[dict[str, Any]] = pq.read_table(out / f"{name}.parquet").to_pylist()
    return rows


def by_sample(out: Path, column: str) -> dict[str, Any]:
    """Return one column of the decisions, by the manifest's own id."""
    return {row["sample_id"].split("/", 1)[1]: row[column] for row in table(out, "decisions")}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a LLaVA JSON manifest."""
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def caption_row(row_id: str, video: str, **more: Any) -> dict[str, Any]:
    """Make one caption row."""
    turns = [
        {"from": "human", "value": "<image>\nPlease describe this video in detail."},
        {"from": "gpt", "value": "A test image."},
    ]
    return {"id": row_id, "video": video, "conversations": turns, **more}


def run_shard(run: Path | str, out: Path | str, **settings: Any) -> ShardResult:
    """Shard a finished run; a setting's name has '__' for its dots."""
    directory = open_run(run)
    record = directory.read_run()
    overrides = [(key.replace("__", "."), value, "test") for key, value in settings.items()]
    config = load_config(None, overrides, run_settings=record["config"]).config
    return shard_run(directory, record, config, open_folder(out), ShardObserver())


def shard_bytes(out: Path) -> dict[str, bytes]:
    """Return every file of a folder of shards."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}
