"""Which clips of a job's files are left."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from support.stages import file_rows
from vxp_data.engines.files import FILE_SCHEMA, num_clips, without_clips


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_is_what_plain_python_leaves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, 12).tolist()
    number = iter(range(sum(sizes)))
    rows = []
    for i, size in enumerate(sizes):
        (row,) = file_rows([f"file{i}"], clips=size).to_pylist()
        rows.append({**row, "clip": [next(number) for _ in range(size)]})
    files = pa.Table.from_pylist(rows, FILE_SCHEMA).slice(2, 8)
    is_back_C = rng.random(sum(sizes)) < 0.6
    wanted = []
    for row in files.to_pylist():
        keep = [i for i, clip in enumerate(row["clip"]) if not is_back_C[clip]]
        names = ("clip", "clip_start_s", "clip_end_s")
        if keep:
            wanted.append(row | {name: [row[name][i] for i in keep] for name in names})
    left = without_clips(files, is_back_C)
    assert left.schema == FILE_SCHEMA
    assert left.to_pylist() == wanted
    assert num_clips(left) == sum(len(row["clip"]) for row in wanted)


def test_nothing_is_left_when_all_is_back() -> None:
    files = file_rows(["a", "b"])
    assert len(without_clips(files, np.ones(2, dtype=np.bool_))) == 0
    assert num_clips(files.slice(0, 0)) == 0
