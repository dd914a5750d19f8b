"""Waits for a core or a GPU that is not free, and says for which, and who has it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal

from ray.util.placement_group import placement_group, remove_placement_group

from vxp_data.engines.base import Shortage
from vxp_data.engines.ray.capacity import alive_nodes, can_get_gpus, is_free, other_jobs
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

_SILENT_S: Final = 10.0
"""How long one waits before a word is said of it."""
_POLL_S: Final = 60.0
_OTHERS_NAMED: Final = 3
_ON_CORES: Final = "--set encoder.device=cpu takes cores: 11 s a frame with SigLIP so400m."

OnShortage = Callable[[Shortage], None]
Resource = Literal["CPU", "GPU"]


def wait_for_room(cluster: ClusterConfig, needs: EncoderNeeds, on_shortage: OnShortage) -> None:
    """Wait until a first encoder and a first decoding task could run.

    Raises:
        UserError: no GPU came, or was given free, in `cluster.gpu_wait_s`.
    """
    if needs.device == "cuda" and not needs.in_decode_task:
        wait_for_gpu(cluster, on_shortage)
    _wait_for("CPU", math.inf, "as long as it takes", on_shortage)


def wait_for_gpu(cluster: ClusterConfig, on_shortage: OnShortage) -> None:
    """Wait for a GPU: one that is to come, or that others use.

    Raises:
        UserError: none came in `cluster.gpu_wait_s`.
    """
    limit = f"up to {cluster.gpu_wait_s:g} s (cluster.gpu_wait_s)"
    short = _wait_for("GPU", cluster.gpu_wait_s, limit, on_shortage)
    if short is not None:
        raise UserError(
            f"waited {cluster.gpu_wait_s:g} s for a GPU in vain: {short.message.partition(':')[0]}."
            f" Wait longer (--set cluster.gpu_wait_s=3600), or add one. {_ON_CORES}"
        )


def _wait_for(
    resource: Resource, limit_s: float, limit: str, on_shortage: OnShortage
) -> Shortage | None:
    """Wait until one is free; an autoscaler sees that one is wanted.

    What is waited for is a placement group: Ray 2.60 may crash where a task that waits is taken
    back.

    Returns:
        What is lacking still; None: one is free.
    """
    if is_free(resource):
        return None
    probe = placement_group([{resource: 1}])
    began_s = time.monotonic()
    try:
        if probe.wait(min(limit_s, _SILENT_S if _num_there(resource) else 0)):
            return None
        short = _short_of(resource, limit)
        on_shortage(short)
        while time.monotonic() - began_s < limit_s:
            left_s = began_s + limit_s - time.monotonic()
            if probe.wait(min(left_s, _POLL_S)):
                return None
        return short
    finally:
        remove_placement_group(probe)


def _short_of(resource: Resource, limit: str) -> Shortage:
    """Say what is lacking: there are none, or others have them."""
    what = "GPU" if resource == "GPU" else "core"
    num_there = _num_there(resource)
    if num_there:
        others = other_jobs()
        named = "; ".join(others[:_OTHERS_NAMED]) or "no other job that Ray knows"
        more = f" and {len(others) - _OTHERS_NAMED} more" if len(others) > _OTHERS_NAMED else ""
        message = f"all {num_there:g} {what}s of the cluster are in use: waits for one, {limit}. "
        message += f"There are: {named}{more}."
        return Shortage(
            name=f"free {what}s",
            message=message,
            remedy="Runs at the same time take a part each: --share 0.5.",
        )
    coming = "its autoscaler may add some" if can_get_gpus() else "machines may join it"
    if resource == "CPU":
        coming = "machines may join it"
    return Shortage(
        name=f"{what}s",
        message=f"the cluster has no {what} now: {coming}; waits for one, {limit}.",
        remedy=_ON_CORES if resource == "GPU" else "Start machines with cores.",
    )


def _num_there(resource: Resource) -> float:
    return sum(float(node["Resources"].get(resource, 0)) for node in alive_nodes())
