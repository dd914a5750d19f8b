"""Start or join Ray, quietly, and leave it as it was found."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
import ray.data

from vxp_data.engines.ray.access import MODE, TOKEN, access_to, find_token
from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

_LOCAL: Final = {
    # Its only node may answer late, on a busy machine; Ray would take it for dead, and end.
    "RAY_health_check_failure_threshold": "1000",
    # Idle workers that import Ray before anybody has asked for one.
    "RAY_prestart_worker_first_driver": "0",
}


@contextmanager
def ray_session(cluster: ClusterConfig, store_bytes: int) -> Iterator[None]:
    """Run Ray for the length of a block; a session that is already there is used and left running.

    Args:
        cluster: where it runs.
        store_bytes: shared memory of a local Ray.

    Raises:
        UserError: there is no cluster at the address, it does not let us in, the address is one of
            Ray's client, or Ray does not start here.
    """
    refuse_client(cluster.address)
    _silence()
    if ray.is_initialized():
        yield
        return
    here: dict[str, Any] = {
        "address": "local",
        "num_cpus": cluster.num_cpus,
        "num_gpus": cluster.num_gpus,
        "object_store_memory": store_bytes,
        "include_dashboard": False,
    }
    if cluster.address is None:
        where = here
        settings = {k: v for k, v in _LOCAL.items() if k not in os.environ} | own_token()
    else:
        where, settings = {"address": cluster.address}, access_to(cluster.address)
    try:
        # Ray's C++ core writes past Python's logging
        with _stderr_closed(), _environment(settings):
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except Exception as error:  # Ray raises nothing narrower where its own processes do not start
        raise _not_joined(cluster.address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _not_joined(address: str | None, error: Exception) -> UserError:
    if address is None:
        return UserError(
            f"Ray did not start: {error} This machine may have too much to do, or too little "
            "memory: try again later, with less beside it."
        )
    return UserError(
        f"the Ray cluster at {address!r} cannot be joined: {error}. It needs the same versions of "
        "Ray and Python as here, and a head that runs; leave --address out to run on this machine."
    )


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Start Ray with settings that nothing else is to have, and what it sets itself: its mode.

    Ray keeps what it once read of mode and token; of another session it may be.
    """
    before = {name: os.environ.get(name) for name in (*settings, MODE)}
    os.environ.update(settings)
    core: Any = ray._raylet
    core.Config.initialize("")
    core.AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def own_token() -> dict[str, str]:
    """Return a token for a local Ray where there is none, for it alone.

    Ray would make one and leave it in ~/.ray, where clusters that are started later find it, and
    want it from then on; without a home folder to write to, it would not start.
    """
    mode = os.environ.get(MODE)
    if (mode is not None and mode.lower() != "token") or find_token() is not None:
        return {}
    return {TOKEN: secrets.token_hex(32)}


def refuse_client(address: str | None) -> None:
    """Refuse an address of Ray's client: Ray Data does not run through it (ray issue 48682)."""
    if address is not None and address.startswith("ray://"):
        host = address.removeprefix("ray://").partition(":")[0]
        raise UserError(
            f"the address {address!r} is one of Ray's client, through which Ray Data does not run. "
            f"Send the command to the cluster: ray job submit --address http://{host}:8265 -- "
            "vxp-data ... --address auto; or, from a machine in the cluster's network, give the "
            f"cluster's own address: {host}:6379."
        )


@contextmanager
def _stderr_closed() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _silence() -> None:
    """Keep Ray Data's progress bars and plan print-outs off the terminal: ours are shown."""
    for name in ("ray", "ray.data"):  # what fails is raised, and told once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
