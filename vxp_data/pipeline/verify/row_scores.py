"""The part of `verify` about rows with several videos: their scores are worked out anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from vxp_data.pipeline.curate.score_rows import row_scores
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table

SCORE_TOLERANCE: Final = 2e-9
"""effective_frames is rounded to 9 decimals, and may be rounded otherwise on another CPU."""


def check_row_scores(
    run: RunDirectory, record: Mapping[str, Any], add: Callable[[str], None]
) -> None:
    """Score the rows of several videos anew, from the stored embeddings; `add` takes problems."""
    fingerprints = {"encoder": record["encoder"]["fingerprint"], "sampler": record["sampler"]}
    stored = read_table(run.row_scores) if run.row_scores.is_file() else None
    with row_scores(run, **fingerprints) as tables:
        anew = None if tables is None else pa.concat_tables(tables)
    if (stored is None) != (anew is None):
        add(f"row_scores.parquet: {'missing' if stored is None else 'no row needs it'}")
    if stored is None or anew is None:
        return
    if stored["sample_id"] != anew["sample_id"]:
        add("row_scores.parquet: its rows are not those with several videos")
        return
    for name in set(stored.column_names[1:]) & set(anew.column_names):
        off_R = np.abs(stored[name].to_numpy() - anew[name].to_numpy()) > SCORE_TOLERANCE
        for row in np.flatnonzero(off_R).tolist():
            add(
                f"row_scores.parquet: {stored['sample_id'][row].as_py()}: {name} is "
                f"{stored[name][row].as_py()!r}, its embeddings give {anew[name][row].as_py()!r}"
            )
