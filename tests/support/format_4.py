"""Runs of formats 4 to 6, which no version writes any more.

`run_of_format_4.tar.xz` was written by the last version that did: a prune of six rows over four
small videos, one of them broken and one there twice (thumbnail encoder, two frames a clip, a filter
and --duplicates relink), and `sample`. `as_format_4` writes a run back by hand; that it is true to
the format is shown by that stored run. `as_format_5` leaves out what format 6 added.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STORED = Path(__file__).with_name("run_of_format_4.tar.xz")
STORED_6 = Path(__file__).with_name("run_of_format_6.tar.xz")
FACTS = ("uri", "clip_start_s", "clip_end_s", "file_stamp", "encoder", "sampler")
OLD_NAMES = {
    "turns": "exchanges",
    "file_version": "file_stamp",
    "representative_uri": "keeper_uri",
    "representative_clip_start_s": "keeper_clip_start_s",
    "representative_clip_end_s": "keeper_clip_end_s",
    "representative_media_id": "keeper_media_id",
}
NEW_IN_6 = (
    "clips", "gradual_refresh", "time_note", "stream_index", "num_video_streams", "has_crop",
    "found_by",
    "medium",
)  # fmt: skip


def stored_run(folder: Path) -> Path:
    """Unpack the run that the last version of format 4 wrote."""
    with tarfile.open(STORED) as tar:
        tar.extractall(folder, filter="data")
    return folder / "run"


def stored_run_of_format_6(folder: Path) -> Path:
    """Unpack the run that the last version of format 6 wrote."""
    with tarfile.open(STORED_6) as tar:
        tar.extractall(folder, filter="data")
    return folder / "run"


def run_files(run: Path) -> dict[str, bytes]:
    """Return every file of a run."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def as_format_4(run: Path) -> None:
    """Write a run of ours, in place, as the last version of format 4 did."""
    record = json.loads((run / "run.json").read_text())
    samplers = {record["sampler"]: old_sampler(record["config"])}
    _unmerge(run)
    for part in sorted((run / "embeddings").iterdir()):
        _part_as_format_4(run, part, samplers)
    for name in ("samples", "media", "duplicates"):
        path = run / f"{name}.parquet"
        if path.exists():
            stored = pq.ParquetFile(path)
            groups = [stored.read_row_group(i) for i in range(stored.num_row_groups)]
            old = [_old_names(group, samplers) for group in groups]
            with pq.ParquetWriter(path, old[0].schema, compression="zstd") as writer:
                for group in old:
                    writer.write_table(group)
    (run / "run.json").write_text(json.dumps(_old_record(record, samplers), indent=2) + "\n")


def as_format_5(run: Path) -> None:
    """Write a run of ours, in place, as the last version of format 5 did."""
    _unmerge(run)
    files = [*sorted((run / "embeddings").iterdir())]
    files += [run / f"{name}.parquet" for name in ("samples", "media", "plans")]
    for path in files:
        if path.exists():
            table = _without_new(pq.read_table(path))
            if "turns" in table.column_names:
                pairs = [_pairs(turns) for turns in table["turns"].to_pylist()]
                index = table.column_names.index("turns")
                table = table.set_column(index, "turns", pa.array(pairs, pa.large_string()))
            pq.write_table(table, path, compression="zstd")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "format_version": 5}, indent=2) + "\n")


def _unmerge(run: Path) -> None:
    """Write a part a clip, without what format 7 added, in the place of those that were merged."""
    shutil.rmtree(run / "part_index")
    for folder in ("embeddings", "thumbnails"):
        for path in sorted((run / folder).glob("*")):
            stored = pq.read_table(path)
            path.unlink()
            new = [name for name in stored.column_names if name == "mean" or "score:" in name]
            stored = stored.drop_columns(new)
            for row in range(len(stored)):
                (facts,) = stored.slice(row, 1).to_pylist()
                key = [facts[n] for n in ("uri", "clip_start_s", "clip_end_s", "file_version")]
                name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
                pq.write_table(stored.slice(row, 1), path.with_name(f"part-{name}.parquet"))


def _without_new(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in NEW_IN_6 if name in table.column_names])


def old_sampler(config: dict[str, Any]) -> str:
    """Name a frame sampling as format 4 did, with its own number among the facts."""
    facts = {"decoder": config["decode"]["decoder"], "frames": config["frames"], "run_format": 4}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _part_as_format_4(run: Path, path: Path, samplers: dict[str, str]) -> None:
    table = _old_names(pq.read_table(path), samplers)
    lengths = [len(frames or ()) for frames in table["frame_index"].to_pylist()]
    matrices = [
        None if value is None else list(np.frombuffer(value, np.float16).reshape(length, -1))
        for value, length in zip(table["embedding"].to_pylist(), lengths, strict=True)
    ]
    dim = json.loads((run / "run.json").read_text())["encoder"]["dim"]
    column = pa.array(matrices, pa.list_(pa.list_(pa.float16(), dim)))
    table = table.drop_columns("embedding").append_column("embedding", column)
    rows = table.select(FACTS).to_pylist()
    ends = ["end" if row["clip_end_s"] == np.inf else repr(row["clip_end_s"]) for row in rows]
    keys = ["\0".join([*map(str, row.values()), end]) for row, end in zip(rows, ends, strict=True)]
    name = f"part-{hashlib.sha256(''.join(keys).encode()).hexdigest()[:24]}.parquet"
    path.unlink()
    pq.write_table(table, path.with_name(name), compression="zstd")
    sheets = run / "thumbnails" / path.name
    if sheets.exists():
        table = _old_names(pq.read_table(sheets), samplers)
        sheets.unlink()
        pq.write_table(table, sheets.with_name(name), compression="zstd")


def _old_names(table: pa.Table, samplers: dict[str, str]) -> pa.Table:
    table = _without_new(table)
    table = table.rename_columns([OLD_NAMES.get(name, name) for name in table.column_names])
    if "exchanges" in table.column_names:
        index = table.column_names.index("exchanges")
        pairs = [_pairs(turns) for turns in table["exchanges"].to_pylist()]
        table = table.set_column(index, "exchanges", pa.array(pairs, pa.large_string()))
    if "sampler" in table.column_names:
        names = [samplers.get(name, name) for name in table["sampler"].to_pylist()]
        index = table.column_names.index("sampler")
        table = table.set_column(index, "sampler", pa.array(names, pa.string()))
    types = [  # Parquet's own name for what is in a list is another than Arrow's
        pa.list_(field.type.value_type) if pa.types.is_list(field.type) else field.type
        for field in table.schema
    ]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)))


def _pairs(turns: str) -> str:
    """Write turns of a user and an assistant in pairs, LLaVA's marker where a medium is."""
    texts = [
        content if isinstance(content, str)
        else "".join("<image>\n" if part["type"] != "text" else part["text"] for part in content)
        for content in (turn["content"] for turn in json.loads(turns))
    ]  # fmt: skip
    pairs = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))


def _old_record(record: dict[str, Any], samplers: dict[str, str]) -> dict[str, Any]:
    text = json.dumps(record)
    for new, old in (("image_format", "picture_format"), ("per_image", "per_picture")):
        text = text.replace(f'{new}"', f'{old}"')
    old = json.loads(text)
    return {**old, "sampler": samplers[record["sampler"]], "format_version": 4}
