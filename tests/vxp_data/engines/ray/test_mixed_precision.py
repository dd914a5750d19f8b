"""Encoders on machines of two kinds: one precision a job, whatever the driver's machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.clusters import Prune, cluster_of, node, offer_nodal
from support.flat_videos import write_flat_video
from support.runs import caption_row, write_rows
from vxp_data.encoders.base import EncoderSpec, fingerprint, require_spec
from vxp_data.errors import UserError

NODAL = {"encoder.name": "nodal"}
BF16 = fingerprint({"precision": "bf16", "version": "1"})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """One machine of one core, the head, without a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        offer_nodal(tmp_path_factory.mktemp("nodal"), patch)
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster_of(node()) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    names = [f"video{i}.mp4" for i in range(4)]
    for i, name in enumerate(names):
        write_flat_video(folder / name, num_frames=5, rgb=(30 * i, 100, 100))
    return write_rows(folder / "rows.json", [caption_row(name, name) for name in names])


def made_by(out: Path) -> set[str]:
    parts = [pq.read_table(part, columns=["encoder"]) for part in (out / "embeddings").glob("*")]
    return {value for part in parts for value in part["encoder"].to_pylist()}


@pytest.mark.timeout(400)
def test_a_run_waits_for_its_gpu_and_has_the_gpus_precision_from_whatever_machine_it_is_started(
    cluster, manifest: Path, tmp_path: Path
) -> None:
    waits = NODAL | {"encoder.device": "cuda", "cluster.gpu_wait_s": 200}
    run = Prune(cluster, manifest, tmp_path / "run", waits)
    try:
        run.wait_for("the cluster has no GPU now")
        assert "up to 200 s (cluster.gpu_wait_s)" in run.said()
        gpu = cluster.add_node(**node(num_gpus=1))
        assert run.end() == 0, run.said()
        assert run.num_embedded() == 4
        assert made_by(tmp_path / "run") == {BF16}
        again = Prune(cluster, manifest, tmp_path / "run", NODAL, {"VXP_TEST_DEVICE": "cuda"})
        assert again.end() == 0, again.said()
        assert again.num_embedded() == 0
        cluster.remove_node(gpu, allow_graceful=False)
        odd = cluster.add_node(**node(num_gpus=1, VXP_TEST_VERSION="2"))
        mixed = Prune(cluster, manifest, tmp_path / "mixed", NODAL)
        assert mixed.end() == 2, mixed.said()
        cluster.remove_node(odd)
    finally:
        run.process.kill()
    assert "on node" in mixed.said()
    assert f"the job's is bf16, 16 px, 4 numbers, fingerprint {BF16}" in mixed.said()
    assert made_by(tmp_path / "mixed") == set()


def test_an_encoder_of_another_precision_is_refused_by_name() -> None:
    def spec(precision: str) -> EncoderSpec:
        return EncoderSpec(
            name="tower", frame_px=8, dim=4, fingerprint=fingerprint({"p": precision}),
            in_decode_task=False, precision=precision,
        )  # fmt: skip

    require_spec(spec("bf16"), spec("bf16"))
    with pytest.raises(UserError, match=r"on node \S+ the encoder 'tower' is fp32, .* is bf16, "):
        require_spec(spec("fp32"), spec("bf16"))
