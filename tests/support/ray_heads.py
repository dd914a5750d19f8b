"""Heads of Ray clusters, started as users start them: `ray start`, in homes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.repo import ROOT

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return this process's environment without its Ray settings, in another home."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{BIN}{os.pathsep}{kept['PATH']}"
    python = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    return {**kept, "HOME": str(home), "PATH": path, "PYTHONPATH": python, **more}


@contextmanager
def head(env: dict[str, str], *options: str) -> Iterator[str]:
    """Start a head of one core as a user does; return its address."""
    address = f"127.0.0.1:{free_port()}"
    command = [str(BIN / "ray"), "start", "--head", "--block", f"--port={address.split(':')[1]}"]
    command += ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=100000000"]
    command += ["--disable-usage-stats", *options]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as ray:
        try:
            wait = [sys.executable, str(ROOT / "pipelines/cluster/wait_for_nodes.py"), address, "1"]
            subprocess.run([*wait, "--limit-s=200"], env=env, check=True, capture_output=True)
            yield address
        finally:
            ray.terminate()
            ray.communicate(timeout=60)
