"""A machine is lost in the middle of a run, in a real Ray cluster of two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from support.clusters import cluster_of
from support.flat_videos import TAKES_LONG, write_flat_video
from support.misbehaving import MARKS, offer_misbehaving
from support.runs import by_sample, caption_row, write_rows

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

NUM_VIDEOS = 24

NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100 << 20}
"""A machine of one core; its GPU is a number that Ray counts and nobody uses."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with one node, the head; the session's own Ray is not touched."""
    with pytest.MonkeyPatch.context() as patch:
        offer_misbehaving(tmp_path_factory.mktemp("misbehaving"), patch)
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster_of(NODE) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    names = [f"video{i:02}.mp4" for i in range(NUM_VIDEOS)]
    for name in names:
        write_flat_video(folder / name, num_frames=TAKES_LONG)
    return write_rows(folder / "rows.json", [caption_row(name, name) for name in names])


def start_prune(cluster: Cluster, manifest: Path, out: Path, **settings: Any) -> subprocess.Popen:
    values = {
        "encoder.name": "misbehaving",
        "frames.sampler": "misbehaving",
        "thresholds.default": "keep 1.0",
        "cluster.address": cluster.address,
        "cluster.node_wait_s": 4,
        **settings,
    }
    command = [sys.executable, "-c", "from vxp_data.cli import main; main()", "prune"]
    command += [str(manifest), "--out", str(out)]
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return subprocess.Popen(
        command + sets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def wait_until_decoded(number: int, process: subprocess.Popen) -> None:
    while len(list(Path(os.environ[MARKS]).glob(f"{TAKES_LONG} frames by *"))) < number:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "encoder", ["thumbnail", pytest.param("misbehaving", marks=pytest.mark.slow)]
)
def test_a_lost_machine_costs_what_was_in_flight_there(
    cluster: Cluster, manifest: Path, tmp_path: Path, encoder: str
) -> None:
    node = cluster.add_node(**NODE)
    for mark in Path(os.environ[MARKS]).iterdir():
        mark.unlink()
    out = tmp_path / "run"
    with start_prune(cluster, manifest, out, **{"encoder.name": encoder}) as process:
        try:
            wait_until_decoded(5, process)
            cluster.remove_node(node, allow_graceful=False)
            output, _ = process.communicate(timeout=200)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert set(by_sample(out, "reason").values()) == {"within_threshold"}
    parts = [pq.read_table(part) for part in (out / "embeddings").glob("part-*")]
    assert len({uri for part in parts for uri in part["uri"].to_pylist()}) == NUM_VIDEOS
    timings = json.loads((out / "run.json").read_text())["timings"]
    assert timings["clips_embedded"] == NUM_VIDEOS
