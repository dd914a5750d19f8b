"""The rows that `vxp-data score-template` wrote, and the file of scores that is made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from vxp_data.conversation import Turn, conversation_from_json
from vxp_data.storage.local import whole_file
from vxp_model.errors import UserError

_WANTED: Final = ("sample_id", "task", "turns")
_TEXT: Final = ("sample_id", "dataset", "task", "media_uri", "turns")
_SECONDS: Final = ("clip_start_s", "clip_end_s")
SUFFIXES: Final = (".parquet", ".jsonl")
SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("score", pa.float64()),
        ("scorer", pa.string()),
        ("scorer_version", pa.string()),
        ("task", pa.string()),
        ("reason", pa.string()),
        ("details", pa.large_string()),
    ]
)
"""`score` is the only column of numbers, so that `decide --scores` need not be told which it is.
`reason` is '' where there is a score; `details` is JSON: what was asked and answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRow:
    """A row to be scored."""

    sample_id: str
    task: str
    turns: tuple[Turn, ...]
    media_uri: str = ""
    clip_start_s: float = 0.0
    clip_end_s: float | None = None
    """None: to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """What became of a row."""

    sample_id: str
    task: str
    score: float | None
    reason: str
    details: Any

    @classmethod
    def of(cls, row: TemplateRow, values: Sequence[float], details: Any) -> Self:
        """Return a row with the mean of some values as its score."""
        score = math.fsum(values) / len(values)
        return cls(sample_id=row.sample_id, task=row.task, score=score, reason="", details=details)

    @classmethod
    def without(cls, row: TemplateRow, reason: str, details: Any) -> Self:
        """Return a row that has no score, and why."""
        return cls(
            sample_id=row.sample_id, task=row.task, score=None, reason=reason, details=details
        )


def read_template(path: Path) -> list[TemplateRow]:
    """Read the rows that are to be scored.

    Args:
        path: what `vxp-data score-template` wrote; '.jsonl', '.csv' or '.parquet'.

    Raises:
        UserError: it cannot be read, is something else, or has no row.
    """
    table = _read(path)
    missing = [name for name in _WANTED if name not in table.column_names]
    if missing and len(table):
        raise UserError(
            f"{path}: has no column {missing[0]!r}, its columns are "
            f"{', '.join(table.column_names) or 'none'}. Give what `vxp-data score-template RUN "
            "--out rows.jsonl` wrote."
        )
    if not len(table):
        raise UserError(
            f"{path}: no row is to be scored. `vxp-data score-template RUN` writes the rows of "
            "videos that filters and duplicates leave; `vxp-data report RUN` shows where they went."
        )
    names = [name for name in (*_TEXT, *_SECONDS) if name in table.column_names]
    return [
        _row(path, number, row) for number, row in enumerate(table.select(names).to_pylist(), 1)
    ]


def write_scores(path: Path, rows: Sequence[ScoredRow], *, scorer: str, version: str) -> None:
    """Write a file of scores, whole or not at all; the same rows give the same bytes."""
    made = [
        {
            "sample_id": row.sample_id,
            "score": None if row.score is None else float(row.score),
            "scorer": scorer,
            "scorer_version": version,
            "task": row.task,
            "reason": row.reason,
            "details": json.dumps(row.details, ensure_ascii=False, sort_keys=True),
        }
        for row in rows
    ]
    with whole_file(path) as beside:
        if path.suffix.lower() == ".parquet":
            pq.write_table(pa.Table.from_pylist(made, SCHEMA), beside)
            return
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for one in made:
                file.write(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n")


def check_out(path: Path) -> None:
    """Check the name of the file of scores.

    Raises:
        UserError: it has another ending.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}: wanted a name that ends in {' or '.join(SUFFIXES)}.")


def _read(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    strings = {name: pa.string() for name in _TEXT}
    try:
        data = path.read_bytes()
        source = pa.BufferReader(data)
        if suffix == ".parquet":
            return pq.read_table(source)
        if suffix == ".csv":
            options = pa_csv.ConvertOptions(column_types=strings, strings_can_be_null=False)
            parse = pa_csv.ParseOptions(newlines_in_values=True)
            return pa_csv.read_csv(source, parse_options=parse, convert_options=options)
        if suffix in (".jsonl", ".ndjson"):
            if not data.strip():
                return pa.table({})
            block = pa_json.ReadOptions(block_size=max(1 << 20, len(data)))
            return pa_json.read_json(source, block)
    except (OSError, pa.ArrowException) as error:
        words = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {words}.") from error
    raise UserError(f"{path}: wanted a file that ends in .jsonl, .csv or .parquet.")


def _row(path: Path, number: int, row: dict[str, Any]) -> TemplateRow:
    try:
        turns = conversation_from_json(row["turns"])
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}, row {number} ({row['sample_id']!r}): turns are no conversation: {error}."
        ) from error
    end_s = row.get("clip_end_s")
    return TemplateRow(
        sample_id=str(row["sample_id"]),
        task=row["task"] or "",
        turns=turns,
        media_uri=row.get("media_uri") or "",
        clip_start_s=float(row.get("clip_start_s") or 0.0),
        clip_end_s=None if end_s is None else float(end_s),
    )
