"""Parts of a run are merged while it goes on and at its end; a prune killed in it goes on."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from support import compared_runs
from support.flat_videos import BLUE, GREEN, RED, WHITE, write_flat_video
from support.runs import caption_row, run_prune, table, write_rows
from support.stopped_writes import stop_after
from vxp_data.engines.base import Engine
from vxp_data.engines.choose import open_engine
from vxp_data.errors import UserError
from vxp_data.pipeline.embed import merging as merging_module
from vxp_data.pipeline.embed.merging import merging
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.run_dir.part_index import indexed_parts
from vxp_data.pipeline.run_dir.part_merging import full_merges
from vxp_data.pipeline.run_dir.part_table import is_merged
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.settings.cluster import ClusterConfig

COMPARED = (*compared_runs.COMPARED, "means.parquet")
ENGINES = ["local", pytest.param("ray", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prune that was stopped when all was embedded: its parts are small. Its folder."""
    folder = tmp_path_factory.mktemp("stopped")
    colours = [RED, GREEN, BLUE, WHITE]
    for number, rgb in enumerate(colours):
        write_flat_video(
            folder / f"{number}.mp4", num_frames=9, rgb=rgb, last_rgb=colours[number - 1]
        )
    (folder / "broken.mp4").write_bytes(b"no video")
    rows = [caption_row(str(number), f"{number}.mp4") for number in range(4)]
    rows.append(caption_row("part", "0.mp4", clip_start_s=0.2, clip_end_s=0.6))
    rows.append(caption_row("broken", "broken.mp4"))
    write_rows(folder / "rows.json", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging_module, "merge_rest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prune(folder, folder / "run")
    assert not any(is_merged(file.name) for file in open_run(folder / "run").part_files())
    return folder


def prune(folder: Path, out: Path) -> Any:
    return run_prune(folder / "rows.json", out, folder, thresholds__default="keep 0.5")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def copied(stopped: Path, folder: Path) -> Path:
    shutil.copytree(stopped / "run", folder)
    return folder


def test_in_the_end_there_is_one_part_with_all_that_scoring_needs(
    stopped: Path, tmp_path: Path
) -> None:
    out = copied(stopped, tmp_path / "run")
    assert prune(stopped, out).num_files == 0
    run = open_run(out)
    (part,) = run.part_files()
    assert (is_merged(part.name), indexed_parts(run)) == (True, {part.name})
    rows = {(row["uri"], row["clip_start_s"]): row for row in pq.read_table(str(part)).to_pylist()}
    assert len(rows) == 6
    for score, mean in zip(table(out, "scores"), table(out, "means"), strict=True):
        row = rows[score["uri"], score["clip_start_s"]]
        for name in ("mean_pairwise", "mean_adjacent", "min_pairwise", "effective_frames"):
            assert row[f"score:{name}@1"] == score[name]
        assert row["mean"] == mean["mean"]
    assert verify_run(run, media=True).problems == []


def test_killed_while_it_merges_the_same_prune_gives_the_same_bytes(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copied(stopped, tmp_path / "whole")
    prune(stopped, whole)
    for num_done in range(0, 100, 2):  # every step by itself: see test_part_merging
        out = copied(stopped, tmp_path / str(num_done))
        with monkeypatch.context() as patch:
            stop_in_merging(num_done, patch)
            try:
                prune(stopped, out)
                break
            except KeyboardInterrupt:
                pass
        assert prune(stopped, out).num_files == 0  # nothing is embedded again
        for name in COMPARED:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (num_done, name)
        there, wanted = (
            sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (out, whole)
        )
        assert there == wanted
    assert num_done > 8


def stop_in_merging(num_done: int, patch: pytest.MonkeyPatch) -> None:
    """Let so many files be written or removed by merging, and interrupt what wants to do more."""
    rest = merging_module.merge_rest

    def merge_rest(*given: Any) -> None:
        with pytest.MonkeyPatch.context() as inside:
            stop_after(num_done, inside)
            rest(*given)

    patch.setattr(merging_module, "merge_rest", merge_rest)


def uris(run: RunDirectory) -> list[str]:
    tables = [pq.read_table(str(file), columns=["uri"]) for file in run.part_files()]
    return sorted(uri for part in tables for uri in part["uri"].to_pylist())


@pytest.mark.parametrize("engine_name", ENGINES)
def test_full_parts_are_merged_while_a_run_goes_on(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine_name: str
) -> None:
    run = open_run(copied(stopped, tmp_path / "run"))
    wanted = uris(run)
    late = run.part_files()[-1]
    data = late.read_bytes()
    run.parts.remove(late.name)
    monkeypatch.setattr(merging_module, "LOOK_S", 0.05)
    monkeypatch.setattr(merging_module, "full_merges", partial(full_merges, part_bytes=1))
    cluster = ClusterConfig(engine=engine_name, num_cpus=2, object_store_mib=100)
    asked: list[object] = []
    with open_engine(cluster) as engine:
        run_tasks = engine.run_tasks
        monkeypatch.setattr(engine, "run_tasks", lambda *of: asked.append(of) or run_tasks(*of))
        merge_what_comes(run, engine, asked, late.name, data)
    assert uris(run) == wanted
    assert indexed_parts(run) == {file.name for file in run.part_files()}


def merge_what_comes(
    run: RunDirectory, engine: Engine, asked: list[object], name: str, data: bytes
) -> None:
    """Write a part after a while, and wait until it is merged with those that were there."""
    with merging(run, engine):
        time.sleep(0.5)
        assert asked == []  # the engine may not be running yet
        run.parts.write_bytes(name, data)
        deadline_s = time.monotonic() + 120
        while not all(is_merged(file.name) for file in run.part_files()):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert len(run.part_files()) > 1


def test_many_parts_are_merged_by_the_engine_in_the_end(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(copied(stopped, tmp_path / "run"))
    wanted = uris(run)
    monkeypatch.setattr(merging_module, "HERE_PARTS", 1)
    monkeypatch.setattr(merging_module, "merge_here", lambda _: None)
    with open_engine(ClusterConfig(engine="local", num_cpus=1)) as engine, merging(run, engine):
        pass
    assert (uris(run), len(run.part_files())) == (wanted, 1)


def test_what_goes_wrong_while_a_run_goes_on_does_not_end_it_and_is_told_in_the_end(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(copied(stopped, tmp_path / "run"))
    monkeypatch.setattr(merging_module, "LOOK_S", 0.05)
    monkeypatch.setattr(merging_module, "full_merges", partial(full_merges, part_bytes=1))
    done = []

    def embed() -> None:
        cluster = ClusterConfig(engine="local", num_cpus=1)
        with open_engine(cluster) as engine, merging(run, engine):
            run.parts.write_bytes("part-9.parquet", b"no Parquet")
            time.sleep(1)
            done.append("all that was to be embedded")

    with pytest.raises(UserError, match=r"cannot read .*part-9.parquet"):
        embed()
    assert done
