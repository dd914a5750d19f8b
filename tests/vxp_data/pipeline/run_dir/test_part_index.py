"""The index of a run's parts says what they hold, whichever of them it knows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vxp_data.pipeline.run_dir import part_index
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, read_table
from vxp_data.pipeline.run_dir.part_index import (
    INDEX_SCHEMA,
    indexed_parts,
    part_rows,
    read_part_index,
    write_index,
    write_whole_index,
)
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.schemas import CURRENT_COLUMNS, EMBEDDING_SCHEMA

NAMES = [f"part-{number}.parquet" for number in range(6)]


def write_parts(run: RunDirectory, names: list[str]) -> None:
    for name in names:
        rows = [
            {
                **dict.fromkeys(EMBEDDING_SCHEMA.names),
                "uri": f"/videos/{name}-{row}.mp4",
                "clip_start_s": 0.0,
                "clip_end_s": float("inf"),
                "file_version": "1-1",
                "encoder": "e",
                "sampler": "s",
                "reason": "crashed" if row else "",
            }
            for row in range(2)
        ]
        write_part(run.parts.file(name), pa.Table.from_pylist(rows, EMBEDDING_SCHEMA))


def index(run: RunDirectory, names: list[str]) -> None:
    parts = [part_rows(name, read_table(run.parts.file(name))) for name in names]
    number = len(run.index_files())
    write_index(run.part_index.file(f"index-{number}.parquet"), names, parts)


def told(run: RunDirectory) -> list[dict]:
    tables = list(read_part_index(run))
    assert all(table.schema.equals(INDEX_SCHEMA) for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row["part"], row["row"]))


def stored(run: RunDirectory) -> list[dict]:
    return [
        row | {"part": path.name, "row": number}
        for path in sorted(Path(str(run.parts)).iterdir())
        for number, row in enumerate(pq.read_table(path, columns=list(CURRENT_COLUMNS)).to_pylist())
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = open_run(tmp_path)
    write_parts(run, NAMES)
    return run


@pytest.mark.parametrize("together", [1, 4, 512])
def test_parts_without_an_index_are_read_by_themselves(
    run: RunDirectory, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_index, "PARTS_TOGETHER", together)
    assert told(run) == stored(run)
    index(run, NAMES[1:3])
    assert told(run) == stored(run)


def test_a_part_of_two_indexes_is_told_once(run: RunDirectory) -> None:
    index(run, NAMES[:4])
    index(run, NAMES[2:])
    index(run, NAMES[:1])
    assert told(run) == stored(run)


def test_parts_that_are_gone_are_not_told(run: RunDirectory) -> None:
    write_whole_index(run)
    for name in NAMES[:2]:
        run.parts.remove(name)
    assert told(run) == stored(run)
    assert len(stored(run)) == 8


def test_what_is_indexed_is_not_opened(run: RunDirectory) -> None:
    index(run, NAMES)
    wanted = stored(run)
    for path in Path(str(run.parts)).iterdir():
        path.write_bytes(b"no Parquet")
    assert told(run) == wanted


def test_the_whole_index_is_one_file_and_stays(run: RunDirectory) -> None:
    index(run, NAMES[:2])
    index(run, NAMES[1:3])
    wanted = stored(run)
    write_whole_index(run)
    (whole,) = run.index_files()
    assert indexed_parts(run) == set(NAMES)
    assert told(run) == wanted
    write_whole_index(run)
    assert run.index_files() == [whole]
    run.parts.remove(NAMES[0])
    write_whole_index(run)
    assert indexed_parts(run) == set(NAMES[1:])
    assert told(run) == wanted[2:]


def test_a_run_without_parts_has_no_index(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    write_whole_index(run)
    assert (list(read_part_index(run)), run.index_files()) == ([], [])
