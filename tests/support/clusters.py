"""A Ray cluster whose machines come and go, and `vxp-data prune` on it, from a process of its own.

The GPUs are numbers that Ray counts; what is in a machine's environment says what it is.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.distributions import install, offer

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

PLUGINS: Final = Path(__file__).with_name("nodal_plugins")
ENTRY_POINTS: Final = """\
[vxp_data.encoders]
nodal = nodal_encoder:NodalEncoder
[vxp_data.frame_samplers]
nodal = nodal_sampler:sample
"""
STORE_BYTES: Final = 80 << 20


def offer_nodal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register what is called 'nodal' as a third party does, here and in all that is started."""
    install(folder, "nodal", ENTRY_POINTS)
    offer(monkeypatch, folder, PLUGINS, PLUGINS.parents[1])


def node(*, num_cpus: int = 1, num_gpus: int = 0, **env: str) -> dict[str, Any]:
    """Return a machine as Cluster.add_node takes it; its environment has these variables."""
    here = {"VXP_TEST_DEVICE": "cuda" if num_gpus else "cpu", **env}
    return {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "object_store_memory": STORE_BYTES,
        "env_vars": here,
    }


@contextmanager
def cluster_of(head: Mapping[str, Any]) -> Iterator[Cluster]:
    """Hold a cluster; this process's own Ray, where there is one, is not touched."""
    from ray.cluster_utils import Cluster

    with socket.socket() as server:  # the usual port may be another's, and Ray looks for no other
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    args = {**head, "include_dashboard": False, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=args)
    try:
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


class Prune:
    """`vxp-data prune` in a process of its own.

    Args:
        cluster: where it runs.
        manifest: of videos.
        out: run directory; what it says is in a file beside it.
        settings: its own.
        env: more environment variables of the driver.
    """

    def __init__(
        self,
        cluster: Cluster,
        manifest: Path,
        out: Path,
        settings: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        values = {"cluster.address": cluster.address, "thumbnails.max_bytes": 0, **settings}
        command = [sys.executable, "-c", "from vxp_data.cli import main; main()", "prune"]
        command += [str(manifest), "--out", str(out), "--keep", "1.0"]
        command += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        self.out = out
        self._log = out.with_suffix(".log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | dict(env or {})
            )

    def said(self) -> str:
        """Return what it has said."""
        return self._log.read_text()

    def wait_for(self, words: str, timeout_s: float = 120) -> None:
        """Wait until it says some words."""
        until_s = time.monotonic() + timeout_s
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until_s, self.said()
            time.sleep(0.1)

    def end(self, timeout_s: float = 240) -> int:
        """Wait until it has ended; return its exit code."""
        try:
            return self.process.wait(timeout_s)
        finally:
            self.process.kill()

    def num_embedded(self) -> int:
        """Return how many clips it says it has embedded."""
        number: int = json.loads((self.out / "run.json").read_text())["timings"]["clips_embedded"]
        return number
