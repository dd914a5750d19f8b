"""Rows in any order come out in theirs, from memory or from files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vxp_data.pipeline.run_dir.ordered_rows import PlacedRows

SCHEMA = pa.schema([("name", pa.string()), ("times", pa.list_(pa.float64()))])


def rows_of(indices: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "name": [f"row {index}" for index in indices],
            "times": [[index / 2] * 3 for index in indices],
        },
        schema=SCHEMA,
    )


@pytest.mark.parametrize("group_rows", [7, 100, 1000])
@pytest.mark.parametrize("num_rows", [1, 6, 7, 8, 99, 250])
def test_rows_come_out_in_the_order_of_their_places(
    num_rows: int, group_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    index_N = np.random.default_rng(num_rows).permutation(num_rows)
    with PlacedRows(SCHEMA, group_rows) as rows:
        for start in range(0, num_rows, 3):
            rows.add(rows_of(index_N[start : start + 3]), index_N[start : start + 3])
        for _ in range(2):
            tables = list(rows.ordered())
            assert pa.concat_tables(tables).equals(rows_of(np.arange(num_rows)))
            assert max(map(len, tables)) <= group_rows
        assert any(tmp_path.iterdir()) == (num_rows > group_rows)
    assert not any(tmp_path.iterdir())


def test_no_rows_are_an_empty_table() -> None:
    with PlacedRows(SCHEMA) as rows:
        assert pa.concat_tables(rows.ordered()).equals(SCHEMA.empty_table())
