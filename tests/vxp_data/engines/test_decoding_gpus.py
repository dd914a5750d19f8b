"""How GPUs are shared out between encoders and decoding workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest

from support.gpu_shares import STAGES
from support.repo import ROOT
from support.stages import file_rows
from vxp_data.engines.choose import open_engine
from vxp_data.engines.local import engine
from vxp_data.engines.stage_plan import EncoderNeeds, Machine, plan_stages
from vxp_data.settings.cluster import ClusterConfig

NEEDS = EncoderNeeds(in_decode_task=False, device="cuda", clip_bytes=1, decodes_on_gpu=True)


@pytest.mark.parametrize(
    "machines",
    [
        [Machine(num_cpus=16, num_gpus=2)],
        [Machine(num_cpus=13, num_gpus=1), Machine(num_cpus=64, num_gpus=8)],
        [Machine(num_cpus=4, num_gpus=8)],
        [Machine(num_cpus=16, num_gpus=2), Machine(num_cpus=96, num_gpus=0)],
    ],
)
def test_all_cores_of_a_machine_with_gpus_can_decode_beside_the_encoders(machines):
    plan = plan_stages(machines, NEEDS)
    for machine in machines:
        if machine.num_gpus:
            for_decoding = machine.num_gpus - machine.num_gpus * plan.embed.num_gpus
            assert plan.decode.num_gpus * machine.num_cpus <= for_decoding + 1e-9
    assert plan.decode.num_gpus * 10_000 == pytest.approx(round(plan.decode.num_gpus * 10_000))
    assert plan.decode.num_gpus > 0
    assert plan.embed.num_gpus == 0.75
    with_gpus = sum(machine.num_cpus for machine in machines if machine.num_gpus)
    assert 1 <= plan.decode.workers <= with_gpus


def test_without_such_a_decoder_the_encoders_have_the_gpus():
    needs = EncoderNeeds(in_decode_task=False, device="cuda", clip_bytes=1)
    plan = plan_stages([Machine(num_cpus=16, num_gpus=2)], needs)
    assert (plan.decode.num_gpus, plan.embed.num_gpus) == (0, 1)


def test_decoding_workers_of_one_machine_take_its_gpus_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "visible_devices", lambda: ["4", "GPU-7"])
    cluster = ClusterConfig(engine="local", num_cpus=3, num_gpus=2)
    files = file_rows([str(tmp_path / f"{i}") for i in range(30)])
    with open_engine(cluster) as local:
        reports = pa.concat_tables(local.embed_files(files, STAGES))
    assert set(reports["seen"].to_pylist()) == {"4", "GPU-7"}


@pytest.mark.slow
def test_ray_gives_each_decoding_task_its_share_and_shows_it_the_gpu():
    done = subprocess.run(
        [sys.executable, "-m", "support.gpu_shares"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert sorted(row["clip"] for row in found) == [0, 1, 2]
    assert {(row["share"], row["seen"]) for row in found} == {(0.125, "0")}
