"""What this machine, or the container that it is for us, has: cores, GPUs, memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from vxp_data.cuda import visible_devices
from vxp_data.engines.stage_plan import Machine
from vxp_data.settings.cluster import ClusterConfig

_CGROUP: Final = Path("/sys/fs/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")


def this_machine(cluster: ClusterConfig) -> Machine:
    """Return the cores and GPUs that a job may use here."""
    num_cpus = available_cpus() if cluster.num_cpus is None else cluster.num_cpus
    num_gpus = len(visible_devices()) if cluster.num_gpus is None else cluster.num_gpus
    return Machine(num_cpus=num_cpus, num_gpus=num_gpus)


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """Count the cores that this process may use: its affinity, and a container's quota."""
    num_cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return num_cpus if quota == "max" else max(1, min(num_cpus, int(quota) // int(period)))
    except (OSError, ValueError):
        return num_cpus


def memory_in_use(cgroup: Path = _CGROUP) -> float:
    """Return the share of this machine's memory, or of the container's, that cannot be had."""
    shares = [_machine_share()]
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        shares.append((used - int(stat["inactive_file"])) / limit)
    except (OSError, ValueError, KeyError):  # no limit, or another kind of control group
        pass
    return max(shares)


def _machine_share() -> float:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return 0.0
    kib = {name: int(words.split()[0]) for name, words in (line.split(":") for line in lines)}
    return 1 - kib["MemAvailable"] / kib["MemTotal"]


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is its own or shared with its children; 0: it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
