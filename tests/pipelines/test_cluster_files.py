"""The files of `pipelines/cluster/`: read by the programs they are for, or held to their rules."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from support.later import LATER
from support.repo import PIPELINES
from vxp_data.cli import app
from vxp_data.engines.choose import open_engine
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

if LATER:
    from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = PIPELINES / "cluster"


def commands(text: str) -> list[list[str]]:
    """Find the vxp-data command lines in a file, as lists of words."""
    joined = re.sub(r"\\\n\s*|\n\s+(?=--)", " ", text)
    return [
        shlex.split(line) for line in re.findall(r"vxp-data (\w+ [^\n`#]*--out [^\n`#]*)", joined)
    ]


@pytest.mark.parametrize("name", ["rayjob.yaml", "slurm.sh"])
def test_command_lines_are_those_of_vxp_data(name: str) -> None:
    found = commands((FOLDER / name).read_text())
    assert found
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for words in found:
        command = group.commands[words[0]]
        context = command.make_context(words[0], list(words[1:]))
        assert context.params["address"] in ("auto", "$address")
        assert context.params["out"] is not None


def test_ray_accepts_the_aws_cluster() -> None:
    config = yaml.safe_load((FOLDER / "ray-up.yaml").read_text())
    validate_config(prepare_config(config))
    types = config["available_node_types"]
    assert config["max_workers"] == sum(kind["max_workers"] for kind in types.values())
    assert all(kind["min_workers"] == kind["max_workers"] for kind in types.values())
    assert types["embed"]["resources"] == {"CPU": 0, "GPU": 1}
    assert types["head"]["resources"] == {"CPU": 0}


def test_the_rayjob_has_fixed_groups_and_one_image_and_the_installed_ray() -> None:
    job: dict[str, Any] = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    known = {
        "entrypoint",
        "submissionMode",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    assert set(job["spec"]) <= known
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    lock = (FOLDER.parents[1] / "requirements.lock").read_text()
    assert f"\nray=={cluster['rayVersion']}" in lock.replace("ray[data]", "ray")
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [c for group in groups for c in group["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        assert container["resources"]["limits"] == container["resources"]["requests"]
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounts <= {"shm"}
    for group in cluster["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
        assert {volume["name"] for volume in group["template"]["spec"]["volumes"]} == {"shm"}
        has_gpu = (
            "nvidia.com/gpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"]
        )
        assert (group["rayStartParams"].get("num-cpus") == "0") == has_gpu


def test_the_slurm_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(FOLDER / "slurm.sh")], check=True)


def test_recipes_begin_with_what_a_reader_must_know() -> None:
    for name in ("rayjob.yaml", "ray-up.yaml", "slurm.sh"):
        text = (FOLDER / name).read_text()
        for word in ("Purpose", "Input", "Hardware", "Time", "Why these values"):
            assert f"# {word}: " in text[:900], (name, word)


def test_an_address_of_rays_client_is_refused_with_the_way_round() -> None:
    remedy = r"ray job submit --address http://head:8265 .* head:6379"
    with (
        pytest.raises(UserError, match=remedy),
        open_engine(ClusterConfig(address="ray://head:10001")),
    ):
        pass
