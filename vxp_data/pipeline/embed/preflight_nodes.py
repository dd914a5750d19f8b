"""The checks that every node of a cluster must pass."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from vxp_data.errors import UserError
from vxp_data.pipeline.embed.preflight import (
    Check,
    Verdict,
    check_children,
    check_encoder,
    check_media,
    check_scratch,
)
from vxp_data.pipeline.embed.ray_session import ray_session
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.folder import Folder

_TIMEOUT_S = 600.0


def check_nodes(config: PruneConfig, out: Folder | None, media: Sequence[str]) -> list[Check]:
    """Check each node of the cluster at `cluster.address`; what all agree in is said once.

    Raises:
        UserError: there is no cluster at the address.
    """
    token = f".vxp-check.{secrets.token_hex(4)}.part"  # left by a kill, it goes as half-written
    if out is not None:
        out.write_bytes(token, b"vxp")
    try:
        with ray_session(config.cluster):
            found = _on_every_node(config, out, token, list(media))
    finally:
        if out is not None:
            out.remove(token)
    return list(_summed_up(found))


def check_here(
    config: PruneConfig, out: Folder | None, token: str, media: list[str]
) -> list[Check]:
    """Check the node that this runs on."""
    checks = [*check_scratch(config.cluster), *check_children(config.decode)]
    checks += [check_encoder(config.encoder), check_media(media)]
    if out is not None:
        is_there = out.exists(token)
        checks.append(
            Check(
                name="output",
                verdict=Verdict.OK if is_there else Verdict.FAILED,
                message=f"{out} is {'seen' if is_there else 'not the same folder'}",
                remedy="" if is_there else "Write to a file system that all nodes share, or s3://.",
            )
        )
    return checks


def _on_every_node(
    config: PruneConfig, out: Folder | None, token: str, media: list[str]
) -> dict[str, list[Check]]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(check_here)
    refs = {
        str(node["NodeManagerHostname"]) + " " + str(node["NodeID"])[:8]: task.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(config, out, token, media)
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    try:
        return {name: ray.get(ref, timeout=_TIMEOUT_S) for name, ref in refs.items()}
    except (ray.exceptions.RayError, TimeoutError) as error:
        raise UserError(
            f"the nodes of the cluster cannot be checked: {error}. Is this version of vxp "
            "installed on all of them, with the same Python?"
        ) from error


def _summed_up(found: dict[str, list[Check]]) -> Iterator[Check]:
    """Return what is well once, and what is not once for each way of not being well."""
    nodes_of: dict[Check, list[str]] = {}
    for node, checks in found.items():
        for check in checks:
            nodes_of.setdefault(check, []).append(node)
    for check, nodes in nodes_of.items():
        where = f"all {len(found)} nodes" if len(nodes) == len(found) else ", ".join(nodes)
        yield Check(
            name=check.name,
            verdict=check.verdict,
            message=f"on {where}: {check.message}",
            remedy=check.remedy,
        )
