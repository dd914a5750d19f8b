"""Runs on a cluster as users start them: with a token, by `ray job submit`, in a Slurm job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.flat_videos import write_flat_video
from support.ray_heads import BIN, environment, free_port, head
from support.repo import ROOT
from support.runs import by_sample, caption_row, write_rows

TOKEN = "0123456789abcdef" * 4
PRUNE = "from vxp_data.cli import main; main()"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    names = [f"video{i}.mp4" for i in range(4)]
    for i, name in enumerate(names):
        write_flat_video(folder / name, num_frames=5 + i)
    return write_rows(folder / "rows.json", [caption_row(name, name) for name in names])


def run(command: list[str], env: dict[str, str]) -> tuple[int, str]:
    pipes: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, check=False, **pipes)
    return done.returncode, done.stdout


def prune(manifest: Path, out: Path, address: str, env: dict[str, str]) -> tuple[int, str]:
    command = [sys.executable, "-c", PRUNE, "prune", str(manifest), "--out", str(out)]
    return run([*command, "--encoder", "thumbnail", "--address", address], env)


def test_a_cluster_with_a_token_lets_in_who_has_it_and_tells_others(
    manifest: Path, tmp_path: Path
) -> None:
    with head(
        environment(tmp_path / "cluster", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN),
        "--include-dashboard=false",
    ) as address:
        by_variable = environment(tmp_path / "home", RAY_AUTH_TOKEN=TOKEN)
        assert prune(manifest, tmp_path / "a", address, by_variable)[0] == 0
        (tmp_path / "token").write_text(TOKEN)
        by_path = environment(tmp_path / "home", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
        assert prune(manifest, tmp_path / "b", address, by_path)[0] == 0
        for told, env in (
            ("wants a token", environment(tmp_path / "home")),
            ("wants another token", environment(tmp_path / "home", RAY_AUTH_TOKEN="f" * 64)),
        ):
            code, output = prune(manifest, tmp_path / "c", address, env)
            assert code == 2, output
            assert told in output
            assert "Traceback" not in output
        (tmp_path / "home" / ".ray").mkdir()
        shutil.copy(tmp_path / "token", tmp_path / "home" / ".ray" / "auth_token")
        assert prune(manifest, tmp_path / "d", address, environment(tmp_path / "home"))[0] == 0


def test_nothing_at_the_address_is_told_at_once(manifest: Path, tmp_path: Path) -> None:
    begun_s = time.monotonic()
    address = f"127.0.0.1:{free_port()}"
    code, output = prune(manifest, tmp_path / "run", address, environment(tmp_path / "home"))
    assert code == 2, output
    assert f"no Ray cluster at '{address}'" in output
    assert time.monotonic() - begun_s < 20


def test_ray_job_submit_runs_a_prune(manifest: Path, tmp_path: Path) -> None:
    env = environment(tmp_path / "home", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    port = free_port()
    out = tmp_path / "run"
    agent = f"--dashboard-agent-listen-port={free_port()}"  # not the usual one
    with head(env, f"--dashboard-port={port}", agent):
        submit = [str(BIN / "ray"), "job", "submit", "--address", f"http://127.0.0.1:{port}", "--"]
        submit += ["vxp-data", "prune", str(manifest), "--out", str(out), "--encoder", "thumbnail"]
        code, output = run([*submit, "--address", "auto"], env)
        while "No available agent to submit job, please try again later" in output:
            time.sleep(1)  # the head takes connections a little before it takes jobs
            code, output = run([*submit, "--address", "auto"], env)
    assert code == 0, output
    assert "succeeded" in output
    assert len(by_sample(out, "decision")) == 4


SHIMS = {
    "scontrol": 'echo "this-machine"\n',
    "srun": 'while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift; shift; done\nexec "$@"\n',
    "hostname": 'echo "127.0.0.1"\n',
}
"""What Slurm would run on a machine of its own runs here."""


def test_the_slurm_script_runs_a_prune(manifest: Path, tmp_path: Path) -> None:
    shims = tmp_path / "bin"
    shims.mkdir()
    for name, body in SHIMS.items():
        (shims / name).write_text(f"#!/bin/bash\n{body}")
        (shims / name).chmod(0o755)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("encoder:\n  name: thumbnail\n")
    env = environment(
        tmp_path / "home",
        SLURM_JOB_ID=str(os.getpid()),
        SLURM_JOB_NODELIST="this-machine",
        SLURM_CPUS_PER_TASK="1",
        MANIFEST=str(manifest),
        MEDIA_ROOT=str(manifest.parent),
        OUT=str(tmp_path / "run"),
        RECIPE=str(recipe),
    )
    env["PATH"] = f"{shims}{os.pathsep}{env['PATH']}"
    code, output = run(["bash", "pipelines/cluster/slurm.sh"], env)
    assert code == 0, output
    assert len(by_sample(tmp_path / "run", "decision")) == 4
    assert not list((tmp_path / "home").glob(".vxp-ray-token-*"))
