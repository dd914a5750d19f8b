"""What rows are about, and how many words they have: of the index, or of the records themselves.

The index of format 1 does not say it: there each record's JSON is read once, in the order of the
shards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vxp_data.shard_index import SAMPLE_COLUMNS, facts_of_format_1
from vxp_model.data.clip import read_members
from vxp_model.data.frames import BrokenSampleError
from vxp_model.data.index import COUNTS, RowFacts, ShardTable
from vxp_model.errors import UserError


def facts_of(table: ShardTable) -> RowFacts:
    """Return what is known of every row of an index.

    Raises:
        UserError: a shard of format 1 cannot be read.
    """
    if table.facts is not None:
        return table.facts
    datasets: list[str] = []
    counts: list[tuple[int, ...]] = []
    unreadable: dict[int, str] = {}
    before, rows = None, list[dict[str, Any]]()
    problem = ""
    for row in range(len(table)):
        record_at = (int(table.shard_N[row]), int(table.json_offset_N[row]))
        if record_at != before:  # rows of one record follow each other
            before = record_at
            rows, problem = _read(table, row)
        place = int(table.index_N[row])
        if place < len(rows):
            found = rows[place]
        else:
            unreadable[row] = problem or f"it has {len(rows)} rows, the index names row {place}"
            found = {"dataset": "", **dict.fromkeys(COUNTS, 0)}
        datasets.append(found["dataset"])
        counts.append(tuple(found[name] for name in COUNTS))
    columns = np.array(counts, dtype=np.int64).reshape(-1, len(COUNTS)).T
    return RowFacts(
        dataset_N=pa.array(datasets, pa.large_string()),
        unreadable=unreadable,
        **{
            f"{name}_N": column.astype(SAMPLE_COLUMNS[name])
            for name, column in zip(COUNTS, columns, strict=True)
        },
    )


def _read(table: ShardTable, row: int) -> tuple[list[dict[str, Any]], str]:
    """Return the facts of a record's rows; none, and why, where it is no record."""
    try:
        data, _ = read_members(table, row, with_payload=False)
    except BrokenSampleError as error:
        raise UserError(
            f"{table.folder.uri}: the rows cannot be looked at: {error.message}. Copy the shard "
            f"again, or see `vxp-data verify {table.folder.uri}`."
        ) from error
    try:
        return facts_of_format_1(data), ""
    except ValueError as error:
        return [], str(error)
