"""A run that was disturbed beside one that was not: are rows lost, doubled, or other bytes?"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

COMPARED: Final = (
    "decisions.parquet",
    "dropped.json",
    "kept.json",
    "media.parquet",
    "quarantine.parquet",
    "samples.parquet",
    "scores.parquet",
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a comparison found."""

    rows: int
    lost: int
    doubled: int
    different: list[str]
    left_behind: list[str]


def compare(out: Path, reference: Path) -> Found:
    """Compare a run directory with that of an undisturbed run."""
    different = [
        f"{out.name}/{name}"
        for name in COMPARED
        if (out / name).read_bytes() != (reference / name).read_bytes()
    ]
    there, wanted = embeddings(out), embeddings(reference)
    different += [f"{out.name}: {key}" for key in wanted if there.get(key) != wanted[key]]
    ids, wanted_ids = sample_ids(out), sample_ids(reference)
    names = {p.name for p in out.iterdir()} | {p.name for p in (out / "embeddings").iterdir()}
    return Found(
        rows=sum(wanted_ids.values()),
        lost=sum((wanted_ids - ids).values()),
        doubled=sum((ids - wanted_ids).values()),
        different=different,
        left_behind=sorted(n for n in names if n.startswith(".") or n == "lock.json"),
    )


def num_clips(out: Path) -> int:
    """Count the clips that have embeddings."""
    if not (out / "embeddings").is_dir():
        return 0
    parts = (out / "embeddings").glob("part-*.parquet")
    keys = ["uri", "clip_start_s", "clip_end_s"]
    rows = [row for part in parts for row in pq.read_table(part, columns=keys).to_pylist()]
    return len({tuple(row.values()) for row in rows})


def embeddings(out: Path) -> dict[tuple[str, float, float], str]:
    """Return every clip's embedding as text; one that is there twice, with other bits, as 'two'."""
    found: dict[tuple[str, float, float], str] = {}
    for part in sorted((out / "embeddings").glob("part-*.parquet")):
        for row in pq.read_table(part).to_pylist():
            key = (row["uri"], row["clip_start_s"], row["clip_end_s"])
            text = repr((row["reason"], row["frame_index"], row["embedding"]))
            found[key] = text if found.get(key, text) == text else "two"
    return found


def sample_ids(out: Path) -> Counter[str]:
    """Count the sample ids in the decisions, and with a mark those in the kept and dropped rows."""
    ids = Counter(pq.read_table(out / "decisions.parquet")["sample_id"].to_pylist())
    for name in ("kept.json", "dropped.json"):
        rows = json.loads((out / name).read_text(encoding="utf-8"))
        ids.update(f"{name} {row['id']}" for row in rows)
    return ids
