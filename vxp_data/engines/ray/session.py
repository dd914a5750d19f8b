"""Start or join Ray, quietly, and leave it as it was found."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
import ray.data

from vxp_data.errors import UserError
from vxp_data.settings.cluster import ClusterConfig

_CONNECT_TIMEOUT_S: Final = 20.0

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
        UserError: there is no cluster at the address, it wants a token, the address is one of Ray's
            client, or Ray does not start here.
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
    where = here if cluster.address is None else {"address": cluster.address}
    if cluster.address is not None:
        _check_answers(cluster.address)
    try:
        # Ray's C++ core writes past Python's logging
        with _stderr_closed(), _local_settings(is_local=cluster.address is None):
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"the Ray cluster at {cluster.address!r} wants a token, and there is none here, or "
            "another one. Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it, or "
            "copy the cluster's ~/.ray/auth_token here."
        ) from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster at {cluster.address!r}: {error}. Check the address and, for a cluster "
            "with token authentication, RAY_AUTH_TOKEN; leave --address out to run on this machine."
        ) from error
    except Exception as error:  # Ray raises nothing narrower where its own processes do not start
        raise UserError(
            f"Ray did not start: {error} This machine may have too much to do, or too little "
            "memory: try again later, with less beside it."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _local_settings(*, is_local: bool) -> Iterator[None]:
    """Start a local Ray with settings that a cluster must not have."""
    given = (
        {k: v for k, v in _LOCAL.items() if k not in os.environ} | own_token() if is_local else {}
    )
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            del os.environ[name]


def own_token() -> dict[str, str]:
    """Return a token for a local Ray where Ray cannot store the one that it would make.

    Ray keeps it in ~/.ray; without a home folder to write to, it does not start.
    """
    if any(f"RAY_AUTH_{name}" in os.environ for name in ("MODE", "TOKEN", "TOKEN_PATH")):
        return {}
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where the home folder would be
        return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if (folder / "auth_token").is_file() or os.access(folder, os.W_OK):
        return {}
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


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


def _check_answers(address: str) -> None:
    """Try to reach HOST:PORT; Ray itself tries for minutes before it gives up."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return  # 'auto', or something that Ray judges
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster at {address!r}: {error.strerror or error}. Check host, port "
            "(usually 6379) and firewalls; leave --address out to run on this machine."
        ) from error


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
