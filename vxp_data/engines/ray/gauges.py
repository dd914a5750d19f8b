"""What Ray is told of a run, for its Prometheus endpoint, and what it tells of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from vxp_data.engines.base import NodeActivity


class Gauges:
    """Figures of a run as metrics of Ray: `ray_vxp_clips_done` and so on, of the driver's node."""

    def __init__(self) -> None:
        self._gauges: dict[str, Any] = {}

    def show(self, figures: Mapping[str, float]) -> None:
        """Set each figure, by its name; nothing where no Ray runs."""
        from ray.util.metrics import Gauge

        if not ray.is_initialized():
            return
        for name, value in figures.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, description="Of a run of vxp-data prune.")
            self._gauges[name].set(value)


def node_activity(node: Mapping[str, Any]) -> NodeActivity:
    """Return what Ray tells of a node."""
    return NodeActivity(
        name=f"{node['NodeManagerHostname']} {node['NodeID'][:8]}",
        num_cpus=node["Resources"].get("CPU", 0),
        num_gpus=node["Resources"].get("GPU", 0),
    )
