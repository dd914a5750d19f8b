"""The checks that every node of a cluster must pass."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from vxp_data.engines.base import Engine
from vxp_data.pipeline.embed.preflight import (
    Check,
    Verdict,
    check_children,
    check_encoder,
    check_media,
    check_scratch,
    failed,
)
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.folder import Folder


def check_nodes(
    config: PruneConfig, out: Folder | None, media: Sequence[str], engine: Engine
) -> list[Check]:
    """Check each machine of an engine's cluster; what all agree in is said once.

    Raises:
        UserError: there is no cluster.
    """
    token = f".vxp-check.{secrets.token_hex(4)}.part"  # left by a kill, it goes as half-written
    if out is not None:
        out.write_bytes(token, b"vxp")
    try:
        found = engine.on_every_machine(partial(check_here, config, out, token, list(media)))
    finally:
        if out is not None:
            out.remove(token)
    return list(_summed_up(_with_a_gpu(found, config.decode.decoder)))


def check_here(
    config: PruneConfig, out: Folder | None, token: str, media: list[str]
) -> list[Check]:
    """Check the node that this runs on."""
    checks = [check_scratch(), *check_children(config.decode, gpu_elsewhere=True)]
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


def _with_a_gpu(found: Mapping[str, list[Check]], decoder: str) -> Mapping[str, list[Check]]:
    """Return the findings; a decoder on a GPU that works on none of the nodes has failed on all."""
    name = f"decoder {decoder}"
    verdicts = {c.verdict for checks in found.values() for c in checks if c.name == name}
    if verdicts != {Verdict.WARNING}:
        return found
    return {
        node: [failed(c.name, c.message) if c.name == name else c for c in checks]
        for node, checks in found.items()
    }


def _summed_up(found: Mapping[str, list[Check]]) -> Iterator[Check]:
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
