"""`vxp-data score-template`: the rows of a run that a score decides about, for whoever scores them.

Writes nothing in the run.
"""

from __future__ import annotations

import io
import json
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.records import CUT_REASONS, Modality, Reason
from vxp_data.schemas import SAMPLE_CLIP_KEY

_COLUMNS: Final = ("sample_id", "dataset", "task", *SAMPLE_CLIP_KEY, "turns")
_REASONS: Final = CUT_REASONS | {Reason.UNSCORED, Reason.KEPT_UNSCORED, Reason.DATASET_EXCESS}
SUFFIXES: Final = (".jsonl", ".csv", ".parquet")


def score_template(run: RunDirectory, suffix: str) -> tuple[bytes, int]:
    """Return the rows to be scored as a file, and how many they are.

    Args:
        run: a finished run.
        suffix: one of SUFFIXES.

    Returns:
        The file's bytes: sample_id, dataset, task, the clip, `turns` as JSON, and an empty column
        `score`, to be filled; and the number of rows.

    Raises:
        UserError: there is no finished run, or the suffix is another.
    """
    if suffix not in SUFFIXES:
        raise UserError(f"--out: got a name ending in {suffix!r}, wanted {', '.join(SUFFIXES)}.")
    run.read_run()
    reasons = read_table(run.decisions, columns=["reason"])["reason"].to_pylist()
    wanted_N = np.array([reason in _REASONS for reason in reasons], dtype=np.bool_)
    table = read_table(run.samples, columns=[*_COLUMNS, "modality"]).filter(pa.array(wanted_N))
    is_video = pc.equal(table["modality"], Modality.VIDEO.value)  # images can be too many as well
    table = table.filter(is_video).drop_columns(["modality"])
    end_s = table["clip_end_s"]
    to_the_end = pc.is_inf(end_s)  # JSON has no infinity
    table = table.set_column(
        table.column_names.index("clip_end_s"),
        "clip_end_s",
        pc.if_else(to_the_end, pa.scalar(None, pa.float64()), end_s),
    )
    table = table.append_column("score", pa.nulls(len(table), pa.float64()))
    return _bytes(table, suffix), len(table)


def _bytes(table: pa.Table, suffix: str) -> bytes:
    out = io.BytesIO()
    if suffix == ".parquet":
        pq.write_table(table, out)
    elif suffix == ".csv":
        pa_csv.write_csv(table, out)
    else:
        for row in table.to_pylist():
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    return out.getvalue()
