"""`vxp-data export`: the kept rows in the layouts that other trainers read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.errors import unknown_name
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.shard.frame_plans import draw_plans
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.records import Modality
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.local import whole_file

_PLACEHOLDER: Final = {Modality.VIDEO: "<video>", Modality.IMAGE: "<image>", Modality.TEXT: ""}
_PLAN_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()), ("dataset", pa.string()), ("task", pa.string()),
        ("modality", pa.string()), ("media_id", pa.string()), ("media_uri", pa.string()),
        ("clip_start_s", pa.float64()), ("clip_end_s", pa.float64()), ("score", pa.float64()),
        ("turns", pa.large_string()), ("annotation", pa.large_binary()),
        ("epoch", pa.int32()), ("fps", pa.float64()),
        ("frame_index", pa.list_(pa.int64())), ("time_s", pa.list_(pa.float64())),
    ]
)  # fmt: skip


def export_rows(run: RunDirectory, config: PruneConfig, layout: str, out: Path) -> int:
    """Write the kept rows of a finished run.

    Args:
        run: a finished run.
        config: for the sampling rule and the number of epochs, with 'parquet'.
        layout: 'llava': a JSON array of `{id, video | image, conversations}`. 'ms-swift': a line
            `{messages, videos | images}` a row. 'parquet': a row for each row and stored epoch,
            with its plan; once, without one, for a text-only row. Media are named by absolute
            paths; a row about a part of its video has `clip_start_s` or `clip_end_s`, as in the
            manifests that we read.
        out: the file.

    Returns:
        How many rows were written.

    Raises:
        UserError: an unknown layout, or the file cannot be written.
    """
    writers: dict[str, Callable[[], int]] = {
        "llava": lambda: _write_llava(out, kept_rows(run)),
        "ms-swift": lambda: _write_ms_swift(out, kept_rows(run)),
        "parquet": lambda: _write_parquet(out, kept_rows(run), config),
    }
    if layout not in writers:
        raise unknown_name("export format", layout, writers)
    return writers[layout]()


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row's (question, answer) pairs, the media's placeholder in the first question."""
    placeholder = _PLACEHOLDER[Modality(row["modality"])]
    pairs = [(question, answer) for question, answer in json.loads(row["turns"])] or [("", "")]
    question, answer = pairs[0]
    for old in ("<video>", "<image>"):  # LLaVA writes <image> for videos too
        question = question.replace(old, "")
    pairs[0] = "\n".join(filter(None, (placeholder, question.strip()))), answer
    return pairs


def _part(row: dict[str, Any]) -> dict[str, float]:
    """Return the limits of the part of its video that a row is about; nothing for the whole."""
    limits = {"clip_start_s": 0.0, "clip_end_s": math.inf}
    return {name: row[name] for name, whole in limits.items() if row[name] != whole}


def _write_llava(out: Path, table: pa.Table) -> int:
    names = {"human": 0, "gpt": 1}
    with whole_file(out) as beside, beside.open("w", encoding="utf-8") as file:
        for number, row in enumerate(_rows(table)):
            media = {row["modality"]: row["media_uri"]} if row["media_uri"] else {}
            media |= _part(row)
            turns = [
                {"from": name, "value": pair[index].replace("<video>", "<image>")}
                for pair in _turns(row)
                for name, index in names.items()
            ]
            value = {"id": row["sample_id"], **media, "conversations": turns}
            file.write(",\n" if number else "[\n")
            file.write(json.dumps(value, ensure_ascii=False))
        file.write("\n]\n" if table.num_rows else "[]\n")
    return int(table.num_rows)


def _write_ms_swift(out: Path, table: pa.Table) -> int:
    names = {"user": 0, "assistant": 1}
    with whole_file(out) as beside, beside.open("w", encoding="utf-8") as file:
        for row in _rows(table):
            messages = [
                {"role": name, "content": pair[index]}
                for pair in _turns(row)
                for name, index in names.items()
            ]
            media = {f"{row['modality']}s": [row["media_uri"]]} if row["media_uri"] else {}
            file.write(
                json.dumps({"messages": messages, **media, **_part(row)}, ensure_ascii=False) + "\n"
            )
    return int(table.num_rows)


def _write_parquet(out: Path, table: pa.Table, config: PruneConfig) -> int:
    num_rows = 0
    with (
        whole_file(out) as beside,
        pq.ParquetWriter(beside, _PLAN_SCHEMA, compression="zstd") as file,
    ):
        for batch in table.to_batches(max_chunksize=1024):
            rows = [
                {name: row.get(name) for name in _PLAN_SCHEMA.names} | plan
                for row in batch.to_pylist()
                for plan in _plans(row, config)
            ]
            file.write_table(pa.Table.from_pylist(rows, _PLAN_SCHEMA))
            num_rows += len(rows)
    return num_rows


def _plans(row: dict[str, Any], config: PruneConfig) -> list[dict[str, Any]]:
    plans = draw_plans(row, config.sampling, config.shard.num_epochs)
    nothing: dict[str, Any] = {"epoch": None, "fps": None, "frame_index": [], "time_s": []}
    return [
        {
            "epoch": plan.epoch,
            "fps": plan.fps,
            "frame_index": plan.frame_index_F,
            "time_s": plan.time_s_F,
        }
        for plan in plans
    ] or [nothing]
