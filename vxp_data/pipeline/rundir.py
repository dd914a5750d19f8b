"""Where everything of a run lies, and what a run directory promises.

`run.json` is written last: a directory without one holds a run that has not ended. Embeddings parts
are whole files with the rows of a few clips each; they are never changed, only added.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.errors import UserError
from vxp_data.schemas import RUN_FORMAT_VERSION
from vxp_data.storage.local import whole_file, write_text


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of a run's files, and how they are read and written."""

    root: Path

    @property
    def samples(self) -> Path:
        """All input rows, one a row, in order."""
        return self.root / "samples.parquet"

    @property
    def media(self) -> Path:
        """Facts about each clip's file, and how its frames were got."""
        return self.root / "media.parquet"

    @property
    def parts(self) -> Path:
        """Folder of the embeddings parts."""
        return self.root / "embeddings"

    @property
    def scores(self) -> Path:
        """One row a clip, one column a measure."""
        return self.root / "scores.parquet"

    @property
    def decisions(self) -> Path:
        """One row a sample: keep, prune, duplicate or quarantine, and why."""
        return self.root / "decisions.parquet"

    @property
    def quarantine(self) -> Path:
        """The rows that could not be used, with reason and message."""
        return self.root / "quarantine.parquet"

    @property
    def run_json(self) -> Path:
        """Settings, inputs, versions, counts and timings; written last."""
        return self.root / "run.json"

    def part_files(self) -> list[Path]:
        """Give the embeddings parts, by name."""
        return sorted(self.parts.glob("part-*.parquet"))

    def read_run(self) -> dict[str, Any]:
        """Read run.json.

        Raises:
            UserError: it is not there, or of another format version.
        """
        try:
            run: dict[str, Any] = json.loads(self.run_json.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.root} holds no finished run: {self.run_json.name} is missing. "
                "Run `vxp-data prune ... --out` on it first, or again if it was stopped."
            ) from error
        except (OSError, ValueError) as error:
            raise UserError(f"{self.run_json} cannot be read: {error}") from error
        if run.get("format_version") != RUN_FORMAT_VERSION:
            raise UserError(
                f"{self.root} is of run format {run.get('format_version')}, this version reads "
                f"{RUN_FORMAT_VERSION}. Prune into a new directory."
            )
        return run

    def write_run(self, run: dict[str, Any]) -> None:
        """Write run.json: the run has ended."""
        text = json.dumps({"format_version": RUN_FORMAT_VERSION, **run}, indent=2) + "\n"
        write_text(self.run_json, text)


def write_table(path: Path, table: pa.Table) -> None:
    """Write one Parquet file, whole."""
    with whole_file(path) as beside:
        pq.write_table(table, beside, compression="zstd")


def write_batches(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write a Parquet file piece by piece, whole in the end; give the number of rows."""
    num_rows = 0
    with (
        whole_file(path) as beside,
        pq.ParquetWriter(beside, schema, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table)
            num_rows += table.num_rows
    return num_rows
