"""Which engine a command takes, and how several commands share one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vxp_data.engines.base import Engine
from vxp_data.registry import ENGINES
from vxp_data.settings.cluster import ClusterConfig

_shared: ContextVar[tuple[ClusterConfig, Engine] | None] = ContextVar("shared", default=None)


def engine_class(cluster: ClusterConfig) -> type[Engine]:
    """Return the class of the engine that the settings name: 'ray' with an address, else 'local'.

    Raises:
        UserError: its package is not installed.
    """
    engine: type[Engine] = ENGINES.load(
        cluster.engine or ("local" if cluster.address is None else "ray")
    )
    return engine


@contextmanager
def open_engine(cluster: ClusterConfig) -> Iterator[Engine]:
    """Hold the engine that the settings name for a block; it starts what it is asked for.

    In a block of `one_engine` with equal settings it is that one.

    Raises:
        UserError: it cannot run here; see `Engine.check`.
    """
    shared = _shared.get()
    if shared is not None and shared[0] == cluster:
        yield shared[1]
        return
    chosen = engine_class(cluster)
    chosen.check(cluster)
    with chosen(cluster) as engine:
        yield engine


@contextmanager
def one_engine(cluster: ClusterConfig) -> Iterator[None]:
    """Share one engine among all commands of a block with equal settings: none starts twice."""
    with open_engine(cluster) as engine:
        token = _shared.set((cluster, engine))
        try:
            yield
        finally:
            _shared.reset(token)
