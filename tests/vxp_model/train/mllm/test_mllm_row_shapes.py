"""Rows of every shape that the field writes, from the manifest to steps of training, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from support.flat_videos import write_flat_video
from support.later import LATER
from support.mllm_runs import recipe
from support.row_shapes import SHAPES, unmarked
from support.runs import by_sample, run_prune, run_shard
from vxp_data.conversation import Turn, conversation_from_json, question_answer_pairs
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.shard.export import export_rows
from vxp_data.settings.prune import PruneConfig
from vxp_model.train.metrics_log import read_log

if LATER:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.loader import ShardLoader
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.run import train_mllm

pytestmark = pytest.mark.usefixtures("one_thread", "engine")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Path:  # noqa: ARG001
    """A run over one row of each shape, all kept."""
    folder = tmp_path_factory.mktemp("shapes")
    write_flat_video(folder / "a.mp4", num_frames=9)
    rows = [{**row, "id": name} for name, (row, _) in SHAPES.items()]
    text = "".join(json.dumps(row) + "\n" for row in rows).replace("{root}", str(folder))
    (folder / "rows.jsonl").write_text(text)
    run_prune(folder / "rows.jsonl", folder / "run", folder, thresholds__default="keep 1.0")
    assert by_sample(folder / "run", "decision") == dict.fromkeys(SHAPES, "keep")
    return folder / "run"


@pytest.fixture(scope="module")
def shards(run: Path) -> str:
    out = run.parent / "shards"
    run_shard(run, out, shard__payload="frames", shard__frame_px=56)
    return str(out)


def pairs(turns: Iterable[Turn]) -> list[list[str]]:
    return [list(pair) for pair in question_answer_pairs(turns)]


def test_the_loader_has_their_words(shards: str) -> None:
    loader = ShardLoader(shards, frames=FrameOptions(frame_px=56))
    found = {s.sample_id.partition("/")[2]: s for batch in loader for s in batch.samples}
    loader.close()
    wanted = {name: unmarked(turns) for name, (_, turns) in SHAPES.items()}
    assert {name: pairs(sample.conversation) for name, sample in found.items()} == wanted
    assert all(sample.kind == "video" for sample in found.values())


def test_two_steps_are_trained_on_them(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    result = train_mllm(recipe(shards, tmp_path / "out", run__steps=2), context, lambda _: None)
    log = read_log(result.out / "log.jsonl")
    assert len(log) == 2
    assert all(entry["loss"] > 0 for entry in log)


@pytest.mark.parametrize(("layout", "suffix"), [("llava", "json"), ("ms-swift", "jsonl")])
def test_an_export_read_back_has_the_same_rows(
    layout: str, suffix: str, run: Path, tmp_path: Path
) -> None:
    directory, out = open_run(run), tmp_path / f"rows.{suffix}"
    record = directory.read_run()
    config = PruneConfig.model_validate(record["config"])
    exported = export_rows(directory, record, config, layout, out)
    assert exported.num_rows == len(SHAPES)
    dataset = Dataset(name="rows", manifest=out, format=suffix, media_root=run.parent)
    found = {
        sample.sample_id.partition("/")[2]: sample
        for sample in read_samples(dataset, TaskRules(), ManifestCounts(), SeenIds())
    }
    assert {name: sample.message for name, sample in found.items()} == dict.fromkeys(SHAPES, "")
    assert {sample.media_uri for sample in found.values()} == {str(run.parent / "a.mp4")}
    wanted = {name: unmarked(turns) for name, (_, turns) in SHAPES.items()}
    told = {name: pairs(conversation_from_json(sample.turns)) for name, sample in found.items()}
    assert told == wanted
