"""Rows that cannot be learned from: left out or replaced, counted, and no run ends for them."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.bad_rows import LEFT_OUT, REPLACED, forty_rows
from support.later import LATER
from support.mllm_runs import changed_parts, recipe, tensors, tree
from support.shard_fixtures import Shards, rewrite_samples
from support.train_processes import finish
from vxp_model.errors import UserError
from vxp_model.train.metrics_log import read_log

if LATER:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.loader import ShardLoader
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import collate
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.training import TrainResult

pytestmark = pytest.mark.usefixtures("one_thread")

RUN = {"steps": 12, "checkpoint_steps": 4, "keep_checkpoints": 9}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return forty_rows(tmp_path_factory.mktemp("forty"))


def settings(out: Path, rows: Shards, **changes: Any) -> Any:
    changes = {"data__max_bad_share": 0.2, "data__mixture": "video_xl_pro_sft", **changes}
    return recipe(rows.uri, out, run={"out": str(out), **RUN}, **changes)


@pytest.fixture(scope="module")
def whole(
    rows: Shards, context: DistributedContext, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainResult, list[str]]:
    """The run over all forty, an epoch and a half, without a stop; and what it said."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("whole")
    return train_mllm(settings(out, rows), context, said.append), said


def listed(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]


def test_a_run_over_forty_rows_of_which_ten_are_bad_ends_and_counts_ten(
    rows: Shards, whole: tuple[TrainResult, list[str]]
) -> None:
    result, said = whole
    seen = [name for entry in read_log(result.out / "log.jsonl") for name in entry["sample_ids"]]
    good = set(rows.sample_ids) - LEFT_OUT.keys() - REPLACED.keys()
    assert len(good) == 30
    assert set(seen) == good
    assert len(seen) == 48
    record = json.loads((result.out / "run.json").read_text())
    assert record["rows"]["data.sources"] == {
        "rows": 40,
        "left_out": 8,
        "by_reason": {
            "no_answer": 3, "media_misplaced": 2, "marker_without_medium": 1, "too_long": 2,
        },
        "replaced": 2,
    }  # fmt: skip
    found = {row["sample_id"]: row["reason"] for row in listed(result.out)}
    assert found == LEFT_OUT | REPLACED
    assert {row["by_sample_id"] for row in listed(result.out) if "by_sample_id" in row} <= good
    words = "8 of 40 rows cannot be learned from and are left out (no_answer 3, media_misplaced 2"
    assert any(words in line and "left_out.jsonl" in line for line in said)
    card = (result.model / "README.md").read_text()
    assert words in card
    assert "2 rows could not be read and were replaced" in card


def test_what_ends_a_step_is_what_is_left_out(rows: Shards, tmp_path: Path) -> None:
    """Each row alone through the batch and the model, as a training without the check has it."""
    model, processor = start_model(settings(tmp_path, rows).config)
    loader = ShardLoader(rows.uri, frames=FrameOptions(frame_px=model.config.vision.image_px))
    raised = set()
    for batch in loader:
        (sample,) = batch.samples
        if sample.replaced is not None:
            continue
        try:
            inputs = collate([sample], processor=processor, seed=0)
            model.sequence(
                inputs.inputs["input_ids"],
                token_kinds=inputs.inputs["token_kinds"],
                labels=inputs.inputs["labels"],
                visual_tokens=visual_tokens(model, inputs.inputs),
                selector_seeds=inputs.selector_seeds,
            )
        except (UserError, ValueError, IndexError):
            raised.add(sample.sample_id)
    loader.close()
    assert raised == LEFT_OUT.keys() - {"marked"}  # that one would be learned, and is no question


def visual_tokens(model: Any, inputs: dict[str, Any]) -> Any:
    if "frames" not in inputs:
        return None
    return model.vision(inputs["frames"], inputs["clip_frames"], inputs["clip_is_image"])


def test_tokens_and_samples_of_each_dataset_add_up_to_the_runs(
    rows: Shards, whole: tuple[TrainResult, list[str]]
) -> None:
    result, _ = whole
    log = read_log(result.out / "log.jsonl")
    for entry in log:
        counts = entry["datasets"].values()
        assert sum(one["samples"] for one in counts) == len(entry["sample_ids"]) == 4
        assert sum(one["tokens"] for one in counts) == entry["tokens"]
    names = {row.sample_id: row.dataset for clip in rows.clips for row in clip.record.rows}
    trained = Counter(names[name] for entry in log for name in entry["sample_ids"])
    record = json.loads((result.out / "run.json").read_text())["datasets"]
    assert {name: one["samples"] for name, one in record.items()} == trained
    assert sum(one["tokens"] for one in record.values()) == sum(entry["tokens"] for entry in log)
    card = (result.model / "README.md").read_text()
    assert "| dataset | samples | share | tokens | share | mixture: rows | share |" in card
    share = f"{trained['films'] / 48:.1%}"
    assert f"| films | {trained['films']} | {share} | {record['films']['tokens']:,} | " in card
    assert "| ocr-vqa | - | - | - | - | 19,000 | 1.9% |" in card


@pytest.mark.parametrize("step", [4, 8])
def test_it_goes_on_to_the_same_bits(
    rows: Shards,
    whole: tuple[TrainResult, list[str]],
    context: DistributedContext,
    tmp_path: Path,
    step: int,
) -> None:
    """From within the first epoch, and from where the second begins."""
    result, _ = whole
    name = f"step-{step:08d}"
    shutil.copytree(result.out / "checkpoints" / name, tmp_path / "checkpoints" / name)
    shutil.copy(result.out / "log.jsonl", tmp_path / "log.jsonl")
    said: list[str] = []
    again = train_mllm(settings(tmp_path, rows), context, said.append)
    assert any(f"going on after step {step} of 12" in line for line in said)
    timeless = ("step", "loss", "grad_norm", "sample_ids", "labels", "tokens", "datasets")
    logs = [
        [[entry[name] for name in timeless] for entry in read_log(run.out / "log.jsonl")]
        for run in (result, again)
    ]
    assert changed_parts(tensors(result.model), tensors(again.model)) == set()
    assert logs[0] == logs[1]
    assert sorted(listed(result.out), key=str) == sorted(listed(again.out), key=str)
    records = [json.loads((run.out / "run.json").read_text()) for run in (result, again)]
    assert records[0]["datasets"] == records[1]["datasets"]


def test_a_resume_that_would_leave_out_others_is_refused(
    rows: Shards, whole: tuple[TrainResult, list[str]], context: DistributedContext, tmp_path: Path
) -> None:
    """Another context limit: two rows fit, which the saved run has left out."""
    result, _ = whole
    shutil.copytree(result.out / "checkpoints", tmp_path / "checkpoints")
    model = tmp_path / "start"
    shutil.copytree(result.model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"context_limit": 40_000}))
    loaded = settings(
        tmp_path, rows, start={"init": "random", "preset": "tiny", "model": str(model)}
    )
    with pytest.raises(
        UserError, match="6 rows are left out, the state was saved with 8, or others"
    ):
        train_mllm(loaded, context, lambda _: None)


def test_too_many_and_nothing_starts(
    rows: Shards, context: DistributedContext, tmp_path: Path
) -> None:
    loaded = settings(tmp_path / "out", rows, data__max_bad_share=0.19)
    with pytest.raises(UserError) as caught:
        train_mllm(loaded, context, lambda _: None)
    message = str(caught.value)
    assert "data.sources: 8 of 40 rows cannot be learned from" in message
    assert "20.0%, at most 19.0% may be (data.max_bad_share)" in message
    assert "no_answer: asked, blank, system (the first: it has no answer)" in message
    assert "too_long: long question, long answer (the first: its text takes 32" in message
    assert "vxp-model check" in message
    assert not (tmp_path / "out" / "log.jsonl").exists()


def test_held_out_rows_that_cannot_be_looked_at_are_left_out_too(
    rows: Shards, context: DistributedContext, tmp_path: Path
) -> None:
    held_out = {"sources": [{"uri": rows.uri, "kinds": ["text"]}], "steps": 1}
    loaded = settings(tmp_path, rows, validation=held_out, data__max_bad_share=0.3)
    loaded = replace(
        loaded,
        config=loaded.config.model_copy(
            update={"run": loaded.config.run.model_copy(update={"steps": 1})}
        ),
    )
    result = train_mllm(loaded, context, lambda _: None)
    assert read_log(result.out / "log.jsonl")[0]["val/loss"] > 0
    record = json.loads((result.out / "run.json").read_text())["rows"]
    assert (record["validation.sources"]["rows"], record["validation.sources"]["left_out"]) == (
        20, 6,
    )  # fmt: skip
    found = [row["sample_id"] for row in listed(result.out) if row["of"] == "validation.sources"]
    assert found == [name for name, why in LEFT_OUT.items() if why != "media_misplaced"]
    with pytest.raises(UserError, match=r"validation.sources: 6 of 20 rows"):
        train_mllm(settings(tmp_path / "b", rows, validation=held_out), context, lambda _: None)


def test_a_row_that_is_not_the_one_looked_at_counts_as_broken(
    tmp_path: Path, context: DistributedContext
) -> None:
    rows = forty_rows(tmp_path / "rows")
    rewrite_samples(rows, "video 3", num_media=2, num_markers=2)
    loaded = settings(tmp_path / "out", rows, data__max_broken=2)
    with pytest.raises(UserError, match=r"3 clips cannot be used, at most 2 .*max_broken"):
        train_mllm(loaded, context, lambda _: None)


@pytest.mark.slow
def test_two_processes_leave_out_the_same_and_count_ten(rows: Shards, tmp_path: Path) -> None:
    values = tree(
        rows.uri,
        tmp_path / "two",
        batch={"global_samples": 4, "micro_samples": 1},
        run={"out": str(tmp_path / "two"), **RUN},
        data__max_bad_share=0.2,
    )
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(values))
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finish([sys.executable, *two, "-m", "vxp_model", "train"], path)
    found = {row["sample_id"]: row["reason"] for row in listed(tmp_path / "two")}
    assert found == LEFT_OUT | REPLACED
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert sum(one["samples"] for one in record["datasets"].values()) == 48
