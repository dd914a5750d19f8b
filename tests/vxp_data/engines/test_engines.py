"""What every engine does: every clip comes back once, and the bytes are the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from support import stages as fakes
from support.mixed_media import write_media
from support.runs import run_prune, run_shard, shard_bytes
from vxp_data.engines.base import Engine, WorkerDiedError
from vxp_data.engines.choose import open_engine
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.errors import UserError
from vxp_data.registry import ENGINES
from vxp_data.settings.cluster import ClusterConfig

NEEDS = EncoderNeeds(in_decode_task=False, device="cpu", clip_bytes=1)


@pytest.fixture
def engine(engine_name: str) -> Iterator[Engine]:
    with open_engine(ClusterConfig(engine=engine_name, num_cpus=2)) as opened:
        yield opened


def test_these_are_the_engines() -> None:
    assert ENGINES.names() == ["local", "ray"]  # `engine_name` goes through them


@pytest.mark.parametrize("in_decode_task", [False, True])
def test_every_clip_comes_back_once(engine: Engine, in_decode_task: bool) -> None:
    files = fakes.file_rows([f"fine-{i}" for i in range(40)], clips=2)
    reports = list(engine.embed_files(files, fakes.stages(in_decode_task=in_decode_task)))
    rows = pa.concat_tables(reports).sort_by("clip").to_pylist()
    assert [row["clip"] for row in rows] == list(range(80))
    assert [row["mean"] for row in rows] == list(range(80))
    assert {row["threads"] for row in rows} == {"1"}
    is_apart = {row["decoder_pid"] for row in rows}.isdisjoint(row["encoder_pid"] for row in rows)
    assert is_apart is not in_decode_task
    assert max(row["batch"] for row in rows) > 1


def test_who_kills_workers_is_reported_and_nobody_else(engine: Engine) -> None:
    names = [f"fine-{i}" for i in range(20)]
    names[3], names[11] = "decode-kill", "embed-kill"
    reports = pa.concat_tables(engine.embed_files(fakes.file_rows(names), fakes.stages()))
    rows = reports.sort_by("clip").to_pylist()
    assert [row["clip"] for row in rows] == list(range(20))
    assert {i: row["reason"] for i, row in enumerate(rows) if row["reason"]} == {
        3: "crashed",
        11: "crashed",
    }


@pytest.mark.parametrize("name", ["decode-user", "embed-user"])
def test_an_error_of_the_users_ends_the_job_with_its_own_words(engine: Engine, name: str) -> None:
    files = fakes.file_rows([f"fine-{i}" for i in range(8)] + [name])
    with pytest.raises(UserError, match=f"^{name} wants a user$"):
        list(engine.embed_files(files, fakes.stages()))


def test_an_error_of_ours_ends_the_job(engine: Engine) -> None:
    with pytest.raises(Exception, match="decode-bug") as caught:
        list(engine.embed_files(fakes.file_rows(["fine", "decode-bug"]), fakes.stages()))
    assert not isinstance(caught.value, UserError)


def test_an_encoder_that_cannot_be_loaded_ends_the_job(engine: Engine) -> None:
    stages = replace(fakes.stages(), start_encoder=fakes.no_encoder)
    with pytest.raises(UserError, match=r"^no weights here$"):
        list(engine.embed_files(fakes.file_rows(["fine"]), stages))


def test_tasks_give_their_results(engine: Engine) -> None:
    assert sorted(engine.run_tasks(fakes.square, range(9))) == [(i, i * i) for i in range(9)]


def test_a_task_that_kills_its_workers_is_named(engine: Engine) -> None:
    with pytest.raises(WorkerDiedError) as caught:
        list(engine.run_tasks(fakes.misbehave_at, [1, "kill", 2]))
    assert (caught.value.index, caught.value.deaths) == (1, 4)


def test_an_error_of_a_task_is_raised(engine: Engine) -> None:
    with pytest.raises(UserError, match=r"^as asked$"):
        list(engine.run_tasks(fakes.misbehave_at, ["user"]))


def test_tasks_that_are_left_are_ended(engine: Engine, tmp_path: Path) -> None:
    results = engine.run_tasks(fakes.misbehave_at, [tmp_path / "begun", 1])
    assert next(results)[0] == 1
    assert (tmp_path / "begun").exists()
    begun_s = time.monotonic()
    results.close()
    assert next(engine.run_tasks(fakes.square, [3])) == (0, 9)
    assert time.monotonic() - begun_s < 55  # the task sleeps for 60


def test_tables_are_mapped(engine: Engine) -> None:
    tables = [pa.table({"x": [i]}) for i in range(5)]
    mapped = pa.concat_tables(engine.map_tables(fakes.Doubler, tables, NEEDS))
    assert sorted(mapped["x"].to_pylist()) == [0, 2, 4, 6, 8]


def test_a_gpu_that_is_not_there_is_asked_for_in_vain(engine: Engine) -> None:
    with pytest.raises(UserError, match=r"encoder\.device is 'cuda'"):
        engine.encoder_device("cuda")


def test_every_machine_is_asked(engine: Engine) -> None:
    assert list(engine.on_every_machine(dict).values()) == [{}]


@pytest.mark.usefixtures("engine", "ray_session")
def test_both_engines_write_the_same_bytes(tmp_path: Path) -> None:
    manifest = write_media(tmp_path / "media")
    tables, shards = [], []
    for name, num_cpus in (("local", 1), ("local", 3), ("ray", 2)):
        out = tmp_path / f"{name}{num_cpus}"
        run_prune(manifest, out, cluster__engine=name, cluster__num_cpus=num_cpus)
        files = ["media", "scores", "decisions", "quarantine", "samples"]
        tables.append({name: (out / f"{name}.parquet").read_bytes() for name in files})
        tables[-1]["embeddings"] = embeddings(out)
        run_shard(out, tmp_path / f"shards-{out.name}", shard__payload="frames")
        shards.append(shard_bytes(tmp_path / f"shards-{out.name}"))
    assert tables[0] == tables[1] == tables[2]
    assert shards[0] == shards[1] == shards[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_session")
def test_both_engines_give_the_same_of_real_and_of_awkward_clips(
    corpus: Path, tmp_path: Path
) -> None:
    manifests = [corpus / "annotations.json", corpus / "annotations_hard.json"]
    written = []
    for name in ("local", "ray"):
        out = tmp_path / name
        run_prune(manifests, out, cluster__engine=name, cluster__num_cpus=2)
        files = ["media", "scores", "decisions", "quarantine"]
        written.append({file: (out / f"{file}.parquet").read_bytes() for file in files})
        written[-1]["embeddings"] = embeddings(out)
    assert written[0] == written[1]


def embeddings(out: Path) -> bytes:
    """Return the embedding rows of a run, by clip: parts follow batches, and so differ."""
    parts = [pa.parquet.read_table(path) for path in sorted((out / "embeddings").iterdir())]
    rows = pa.concat_tables(parts).sort_by([("uri", "ascending"), ("clip_start_s", "ascending")])
    return repr(rows.to_pylist()).encode()
