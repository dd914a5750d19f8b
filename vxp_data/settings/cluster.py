"""Settings of where a job runs."""

from __future__ import annotations

from pydantic import Field, field_validator

from vxp_data.registry import ENGINES
from vxp_data.settings.file import Settings, known_name


class ClusterConfig(Settings):
    """Where the job runs."""

    engine: str | None = None
    """A name in registry.ENGINES: 'local' is processes of this machine, 'ray' is Ray Data on a
    cluster or, without an address, on this machine. None: 'ray' with an address, else 'local'."""
    address: str | None = None
    """Of a Ray cluster: 'auto' on one of its machines, or 'HOST:PORT' of its head
    ('10.0.0.5:6379'). None: this machine."""
    num_cpus: int | None = Field(None, ge=1)
    """Cores that may be used at a time; None: all that this process may use, or the cluster has."""
    num_gpus: int | None = Field(None, ge=0)
    """GPUs that may be used at a time; None: all that this process sees, or the cluster has."""
    share: float = Field(1.0, gt=0, le=1)
    """For 'ray': share of the cluster's cores and GPUs that a run takes at most, whatever it grows
    to: 0.5 for each of two runs at once. 1: all that is free."""
    memory_threshold: float = Field(0.95, gt=0, le=1)
    """For 'local': share of this machine's memory, or of its container's, in use from which the
    worker that holds most is ended, and what it did is tried again, in the end alone."""
    object_store_mib: int | None = Field(None, ge=80)
    """For 'ray' without a cluster: its shared memory, MiB. None: what frames on their way to the
    encoders take, 675 MiB for each encoder of 20 frames at 384 px, and at least 256."""
    node_wait_s: float = Field(60.0, ge=0)
    """For 'ray': how long a lost machine may take to be replaced, where nothing comes back any more
    but what its encoder had in hand; then that is given to others."""
    gpu_wait_s: float = Field(600.0, ge=0)
    """For 'ray': how long a run waits for a GPU that is to come, or that others use."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Where this process shows a run's figures to Prometheus while it embeds, on all interfaces;
    0: any free port. None: nowhere. With 'ray' they are at Ray's own endpoint in any case."""

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, name: str | None) -> str | None:
        return name if name is None else known_name(ENGINES, name)
