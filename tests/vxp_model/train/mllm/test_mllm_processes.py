"""Training of Video-XL-Pro on two processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from support.mllm_runs import training_shards, tree
from support.train_processes import finish
from vxp_model.train.metrics_log import read_log

ALONE = [sys.executable, "-m", "vxp_model", "train"]
TWO = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    "-m", "vxp_model", "train",
]  # fmt: skip


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """Also where one process has a video and the other an image."""
    shards = training_shards(tmp_path / "data", videos=3, images=2)
    losses = []
    for name, command in (("one", ALONE), ("two", TWO)):
        settings = tree(
            shards,
            tmp_path / name,
            batch={"global_samples": 4, "micro_samples": 1},
            engine={"zero_stage": 2, "offload": "torch", "device": "cpu"},
        )
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        finish(command, path)
        log = read_log(tmp_path / name / "log.jsonl")
        losses.append([entry["loss"] for entry in log])
        assert [len(entry["sample_ids"]) for entry in log] == [4] * 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
