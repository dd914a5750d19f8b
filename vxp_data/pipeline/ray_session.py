"""Start or join Ray, quietly, and leave it as it was found."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vxp_data.config import ClusterConfig
from vxp_data.errors import UserError


@contextmanager
def ray_session(cluster: ClusterConfig) -> Iterator[None]:
    """Have Ray for the length of a block; a session that is already there is used and left running.

    Raises:
        UserError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    import ray

    _silence()
    if ray.is_initialized():
        yield
        return
    try:
        if cluster.address is None:
            ray.init(
                address="local",
                num_cpus=cluster.num_cpus,
                num_gpus=cluster.num_gpus,
                object_store_memory=cluster.object_store_mib << 20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster at {cluster.address!r}: {error}. Check the address and, for a cluster "
            "with token authentication, RAY_AUTH_TOKEN; leave --address out to run on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _silence() -> None:
    """Keep Ray Data's progress bars and plan print-outs off the terminal: ours are shown."""
    import ray.data

    for name in ("ray", "ray.data"):  # what fails is raised, and told once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
