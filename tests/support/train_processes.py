"""Training as its command, in processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import psutil

TIMEOUT_S = 280


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def start(command: list[str], recipe: Path, **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(
        [*command, str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has started: torchrun's are in sessions of their own."""
    if process.returncode is not None:
        return
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
