"""Parts are merged, and whatever kills a merge, no clip is lost and in the end none is twice."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.s3 import Bucket
from support.stopped_writes import KILLED, stop_after
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.run_dir.embedding_column import part_name
from vxp_data.pipeline.run_dir.part_columns import part_of
from vxp_data.pipeline.run_dir.part_index import indexed_parts, read_part_index, write_whole_index
from vxp_data.pipeline.run_dir.part_merging import (
    end_merges,
    full_merges,
    last_merges,
    merge,
)
from vxp_data.pipeline.run_dir.part_table import is_merged, write_part
from vxp_data.schemas import EMBEDDING_FACTS, THUMBNAIL_SCHEMA

DIM = 2048  # vectors are the most of a part
MERGES = """
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.run_dir.part_merging import last_merges, merge

for task in last_merges(open_run(sys.argv[1]), part_bytes=int(sys.argv[3])):
    merge(task)
"""


def write_clips(run: RunDirectory, first: int, num: int, *, reason: str = "") -> str:
    """Write a part of clips, and its contact sheets; return its name."""
    rng = np.random.default_rng(first)
    rows, embeddings = [], []
    for number in range(first, first + num):
        emb_FD = rng.normal(size=(3, DIM))
        emb_FD /= np.linalg.norm(emb_FD, axis=1, keepdims=True)
        embeddings.append(None if reason else emb_FD.astype(np.float16))
        rows.append(
            {
                **dict.fromkeys(EMBEDDING_FACTS.names),
                "uri": f"/videos/{number:04}.mp4",
                "clip_start_s": 0.0,
                "clip_end_s": float("inf"),
                "file_version": "1-1",
                "encoder": "e",
                "sampler": "s",
                "reason": reason,
                "frame_index": [] if reason else [0, 1, 2],
            }
        )
    facts = pa.Table.from_pylist(rows, EMBEDDING_FACTS)
    part = part_of(facts, embeddings)
    name = part_name(part)
    keys = facts.select(THUMBNAIL_SCHEMA.names[:-1]).to_pylist()
    sheets = [row | {"sheet": row["uri"].encode()} for row in keys]
    write_part(run.thumbnails.file(name), pa.Table.from_pylist(sheets, THUMBNAIL_SCHEMA))
    write_part(run.parts.file(name), part)
    return name


def rows_of(run: Path, folder: str = "embeddings") -> list[dict[str, Any]]:
    paths = sorted((run / folder).glob("part-*"))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: row["uri"])


def files_of(run: Path) -> dict[str, bytes]:
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def merge_all(run: RunDirectory, part_bytes: int = 1 << 28) -> None:
    end_merges(run)
    while tasks := last_merges(run, part_bytes=part_bytes):
        for task in tasks:
            merge(task)
    write_whole_index(run)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "stored"
    folder.mkdir()
    for first in range(0, 24, 4):
        write_clips(open_run(folder), first, 4)
    return folder


def test_all_rows_and_sheets_are_there_after_it_and_indexed(stored: Path) -> None:
    before = rows_of(stored), rows_of(stored, "thumbnails")
    run = open_run(stored)
    merge_all(run)
    (part,) = run.part_files()
    assert (is_merged(part.name), [part.name]) == (True, run.thumbnails.names())
    assert (rows_of(stored), rows_of(stored, "thumbnails")) == before
    assert indexed_parts(run) == {part.name}
    assert [name[:6] for name in run.part_index.names()] == ["index-"]
    (table,) = read_part_index(run)
    there = pq.read_table(str(part), columns=["uri"])["uri"].to_pylist()
    assert table["uri"].to_pylist() == there
    assert table["row"].to_pylist() == list(range(24))


def test_merged_parts_are_of_the_size_that_is_wanted(stored: Path) -> None:
    run = open_run(stored)
    one = run.parts.sizes()[run.part_files()[0].name]
    tasks = full_merges(run, part_bytes=3 * one)
    assert [len(task.sources) for task in tasks] == [3, 3]
    merge(tasks[0])
    assert indexed_parts(run) == {file.name for file in run.part_files() if is_merged(file.name)}
    assert [len(task.sources) for task in full_merges(run, part_bytes=3 * one)] == [3]
    merge_all(run, 3 * one)
    assert len(run.part_files()) == 2
    assert last_merges(run, part_bytes=3 * one) == []
    write_clips(run, 100, 1)
    merge_all(run, 3 * one)
    assert [len(task.sources) for task in last_merges(run, part_bytes=3 * one)] == []
    write_clips(run, 200, 1)  # with it, what is small is merged once more, and no other
    (task,) = last_merges(run, part_bytes=3 * one)
    assert [is_merged(name) for name in task.sources] == [False, True]
    merge_all(run, 3 * one)
    assert len(run.part_files()) == 3
    assert len(rows_of(stored)) == 26


def test_the_same_parts_become_the_same_file(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path / "other")
    for folder in (stored, tmp_path / "other"):
        merge_all(open_run(folder))
    assert files_of(stored) == files_of(tmp_path / "other")


def test_parts_of_other_columns_are_merged_by_themselves(stored: Path) -> None:
    for path in sorted((stored / "embeddings").iterdir())[1::2]:
        part = pq.read_table(path)
        write_part(
            open_run(stored).parts.file(path.name), part.drop_columns("score:mean_adjacent@1")
        )
    before = [{**row, "score:mean_adjacent@1": None} for row in rows_of(stored)]
    run = open_run(stored)
    merge_all(run)
    assert [pq.read_metadata(str(file)).num_rows for file in run.part_files()] == [12, 12]
    assert [{**row, "score:mean_adjacent@1": None} for row in rows_of(stored)] == before


@pytest.mark.parametrize("part_bytes", [1 << 28, 200_000])
def test_killed_at_any_step_nothing_is_lost_and_in_the_end_nothing_is_twice(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    wanted, sheets = rows_of(stored), rows_of(stored, "thumbnails")
    shutil.copytree(stored, tmp_path / "whole")
    merge_all(open_run(tmp_path / "whole"), part_bytes)
    for num_done in range(200):
        folder = tmp_path / f"killed-{num_done}"
        shutil.copytree(stored, folder)
        run = open_run(folder)
        with monkeypatch.context() as patch:
            stop_after(num_done, patch)
            try:
                for task in last_merges(run, part_bytes=part_bytes):
                    merge(task)
                break
            except KeyboardInterrupt:
                pass
        # As it was left, whoever reads it finds every clip, as it is.
        times = Counter(row["uri"] for row in rows_of(folder))
        assert set(times) == {row["uri"] for row in wanted}
        assert max(times.values()) <= 2
        assert Counter(u for t in read_part_index(run) for u in t["uri"].to_pylist()) == times
        merge_all(run, part_bytes)
        assert rows_of(folder) == wanted
        assert rows_of(folder, "thumbnails") == sheets
        if part_bytes == 1 << 28:
            assert files_of(folder) == files_of(tmp_path / "whole")
    assert num_done > 15


@pytest.mark.parametrize("num_done", [0, 1, 2, 3, 8, 16])
def test_killed_by_a_signal_it_goes_on(stored: Path, tmp_path: Path, num_done: int) -> None:
    wanted = rows_of(stored)
    shutil.copytree(stored, tmp_path / "whole")
    merge_all(open_run(tmp_path / "whole"))
    command = [sys.executable, "-c", KILLED + MERGES, str(stored), str(num_done), str(1 << 28)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    run = open_run(stored)
    run.remove_unfinished()
    merge_all(run)
    assert rows_of(stored) == wanted
    assert files_of(stored) == files_of(tmp_path / "whole")


def test_a_task_that_is_begun_again_ends_what_it_had_begun(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = rows_of(stored)
    run = open_run(stored)
    (task,) = last_merges(run)
    with monkeypatch.context() as patch:
        stop_after(12, patch)  # some of the small parts are gone
        with pytest.raises(KeyboardInterrupt):
            merge(task)
    assert 0 < sum(not is_merged(file.name) for file in run.part_files()) < 6
    merge(task)
    assert (rows_of(stored), len(run.part_files())) == (wanted, 1)
    merge(task)
    assert (rows_of(stored), len(run.part_files())) == (wanted, 1)


def test_a_part_that_is_written_again_after_its_merge_is_not_taken_for_the_old_one(
    stored: Path,
) -> None:
    run = open_run(stored)
    name = write_clips(run, 500, 3, reason="timeout")
    merge_all(run)
    assert write_clips(run, 500, 3) == name  # a retry of the same clips
    end_merges(run)
    merge_all(run)
    assert Counter(row["reason"] for row in rows_of(stored) if row["uri"] > "/videos/04") == {
        "timeout": 3,
        "": 3,
    }


def test_a_damaged_part_is_named_and_nothing_is_removed(stored: Path) -> None:
    path = sorted((stored / "embeddings").iterdir())[3]
    path.write_bytes(b"no Parquet")
    before = files_of(stored)
    with pytest.raises(UserError, match=f"cannot read .*{path.name}"):
        merge_all(open_run(stored))
    assert files_of(stored) == before


def test_in_an_object_store_it_does_the_same(s3: Bucket, stored: Path) -> None:
    for name, data in files_of(stored).items():
        s3.put(f"run/{name}", data)
    uri = f"{s3.uri}/run"
    merge_all(open_run(uri))
    merge_all(open_run(stored))
    folder = open_run(uri).root
    assert {name: folder.read_bytes(name) for name in folder.walk()} == files_of(stored)
