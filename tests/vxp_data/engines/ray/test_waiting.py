"""What a run does, and says, where a cluster has nothing free for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clusters import Prune, cluster_of, node, offer_nodal
from support.flat_videos import write_flat_video
from support.runs import caption_row, write_rows

RAY_UP = {
    "available_node_types": {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "embed": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 2},
    }
}
ASKS = """
import json, sys
from vxp_data.engines.choose import open_engine
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

told = {}
def ask(name, asked, **settings):
    said = told[name] = []
    with open_engine(ClusterConfig(address=sys.argv[1], gpu_wait_s=0.5, **settings)) as engine:
        engine.on_shortage = lambda short: said.append(f"{short.name}: {short.message}")
        try:
            said.append(engine.encoder_device(asked))
        except UserError as error:
            said.append(str(error))
        needs = EncoderNeeds(in_decode_task=True, device="cpu", clip_bytes=1)
        told[f"{name} workers"] = engine.plan(needs).decode.workers

for asked in json.loads(sys.argv[2]):
    ask(asked["name"], asked["device"], **asked["settings"])
print(json.dumps(told))
"""
HOLD = """
import ray, sys, time
ray.init(address=sys.argv[1], logging_level="ERROR")
@ray.remote(num_cpus=2)
def hold():
    time.sleep(600)
held = hold.remote()
ray.wait([held], timeout=5)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """One machine of two cores, without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        offer_nodal(tmp_path_factory.mktemp("nodal"), patch)
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster_of(node(num_cpus=2)) as cluster:
            yield cluster


def asks(cluster, home: Path, *asked: dict) -> dict:
    from vxp_data.engines.ray.access import find_token

    token = find_token()  # in another home it is not found, and the cluster may want it
    shown = {} if token is None else {"RAY_AUTH_TOKEN": token.value}
    done = subprocess.run(
        [sys.executable, "-c", ASKS, cluster.address, json.dumps(asked)],
        env=os.environ | shown | {"HOME": str(home)}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict = json.loads(done.stdout.splitlines()[-1])
    return told


def question(name: str, device: str, **settings: object) -> dict:
    return {"name": name, "device": device, "settings": settings}


@pytest.mark.timeout(300)
def test_who_asks_for_a_gpu_hears_what_he_gets_and_why(cluster, tmp_path: Path) -> None:
    told = asks(
        cluster, tmp_path,
        question("auto", "auto"), question("cuda", "cuda", share=0.5),
        question("none wanted", "cpu", num_cpus=1),
    )  # fmt: skip
    (warning, device) = told["auto"]
    assert device == "cpu"
    assert "no GPU, and no autoscaler that would add one: encoders run on its cores" in warning
    assert "11 s a frame" in warning
    waits, failed = told["cuda"]
    assert "the cluster has no GPU now: machines may join it; waits for one, up to 0.5 s" in waits
    assert failed.startswith("waited 0.5 s for a GPU in vain: the cluster has no GPU now.")
    assert told["none wanted"] == ["cpu"]
    assert [told[f"{name} workers"] for name in ("auto", "cuda", "none wanted")] == [2, 1, 1]


@pytest.mark.timeout(300)
def test_auto_waits_for_the_gpus_of_an_autoscaler(cluster, tmp_path: Path) -> None:
    (tmp_path / "ray_bootstrap_config.yaml").write_text(json.dumps(RAY_UP))
    waits, failed = asks(cluster, tmp_path, question("auto", "auto"))["auto"]
    assert "the cluster has no GPU now: its autoscaler may add some; waits for one" in waits
    assert "--set encoder.device=cpu takes cores" in failed


@pytest.mark.timeout(400)
def test_a_second_run_says_of_whom_it_waits_and_starts_when_he_is_gone(
    cluster, tmp_path: Path
) -> None:
    write_flat_video(tmp_path / "a.mp4", num_frames=5)
    manifest = write_rows(tmp_path / "rows.json", [caption_row("a", "a.mp4")])
    hold = [sys.executable, "-c", HOLD, cluster.address, "the-other-run"]
    with subprocess.Popen(hold, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        run = Prune(cluster, manifest, tmp_path / "run", {"encoder.name": "thumbnail"})
        try:
            run.wait_for("all 2 cores of the cluster are in use: waits for one", timeout_s=180)
            assert "the-other-run" in run.said()
            assert f"process {other.pid} on " in run.said()
            assert "--share 0.5" in run.said()
        finally:
            other.kill()
        assert run.end() == 0, run.said()
