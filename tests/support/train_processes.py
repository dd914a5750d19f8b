"""Training as its command, in processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import psutil

TIMEOUT_S = 280


def start(command: list[str], recipe: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has started: torchrun's are in sessions of their own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.communicate()
    psutil.wait_procs(family)


def finish(command: list[str], recipe: Path) -> str:
    process = start(command, recipe)
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        kill_all(process)
        raise
    assert process.returncode == 0, said
    return said
