"""What a cluster has, what of it is free and for us, and who has the rest."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ray

from vxp_data.engines.stage_plan import Machine
from vxp_data.settings.cluster import ClusterConfig

_RAY_UP: Final = "ray_bootstrap_config.yaml"
"""What `ray up` leaves in the home folder of a head, in JSON."""
_OWN: Final = "ray/dashboard"
"""In what Ray's own programs are started by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a job may take of a cluster; inf: all."""

    num_cpus: float
    num_gpus: float


def alive_nodes() -> list[dict[str, Any]]:
    """Return the machines that are there, as Ray tells of them."""
    known = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in known if node["Alive"]]


def all_machines(cluster: ClusterConfig) -> list[Machine]:
    """Return our share of every machine, whoever uses it."""
    return [_machine(node["Resources"], cluster.share) for node in alive_nodes()]


def free_machines(cluster: ClusterConfig) -> list[Machine]:
    """Return what is free of our share of every machine."""
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    machines = []
    for node in alive_nodes():
        ours, now = _machine(node["Resources"], cluster.share), free.get(node["NodeID"], {})
        machines.append(
            Machine(
                num_cpus=min(ours.num_cpus, now.get("CPU", 0)),
                num_gpus=min(ours.num_gpus, now.get("GPU", 0)),
            )
        )
    return machines


def limits_of(cluster: ClusterConfig) -> Limits:
    """Return how much a job may take at a time; 1 core, and 1 GPU where there are any, at least."""
    ours = all_machines(cluster)
    return Limits(
        num_cpus=_limit(cluster, cluster.num_cpus, sum(machine.num_cpus for machine in ours)),
        num_gpus=_limit(cluster, cluster.num_gpus, sum(machine.num_gpus for machine in ours)),
    )


def _limit(cluster: ClusterConfig, given: int | None, share: float) -> float:
    wanted = math.inf if given is None else float(given)
    return wanted if cluster.share == 1 else min(wanted, max(1.0, math.floor(share)))


def _machine(resources: dict[str, float], share: float) -> Machine:
    return Machine(
        num_cpus=resources.get("CPU", 0) * share, num_gpus=resources.get("GPU", 0) * share
    )


def is_free(resource: str) -> bool:
    """Whether a machine has a whole one free: 'CPU' or 'GPU'."""
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    return any(node.get(resource, 0) >= 1 for node in free.values())


def can_get_gpus() -> bool:
    """Whether an autoscaler is known that may add machines with GPUs.

    One that tells Ray of its groups, or that of `ray up`, on its head. KubeRay's tells nobody.
    """
    config = ray._private.state.state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    if any(group.resources.get("GPU", 0) and group.max_count for group in groups):
        return True
    try:
        told = json.loads((Path.home() / _RAY_UP).read_text(encoding="utf-8"))
        kinds = told["available_node_types"].values()
        return any(kind["resources"].get("GPU", 0) and kind["max_workers"] for kind in kinds)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        return False


def waits_to_start(actor_id: str) -> bool:
    """Whether an actor is neither dead nor where it was: it waits to be started again."""
    told = ray._private.state.actors(actor_id)
    return bool(told) and told["State"] != "DEAD"


def other_jobs() -> list[str]:
    """Return in words the jobs of others that run on the cluster now."""
    here = ray.get_runtime_context().get_job_id()
    jobs = ray._private.state.jobs()  # type: ignore[no-untyped-call]
    return [
        f"{job['Entrypoint'] or 'a program'} (job {job['JobID']}, process {job['DriverPid']} on "
        f"{job['DriverIPAddress']})"
        for job in jobs
        if not job["IsDead"] and job["JobID"] != here and _OWN not in job["Entrypoint"]
    ]
