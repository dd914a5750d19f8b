"""What compares clips with one another: this process, or from many clips on the run's engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final, TypeVar

from vxp_data.engines.base import Engine, WorkerDiedError
from vxp_data.engines.choose import open_engine
from vxp_data.errors import UserError
from vxp_data.neighbours.base import HERE, Workers
from vxp_data.settings.cluster import ClusterConfig

T = TypeVar("T")
R = TypeVar("R")

IN_PROCESSES_FROM: Final = 100_000
"""Clips; fewer are compared sooner than a cluster may take to start."""


@contextmanager
def pair_workers(cluster: ClusterConfig, num_clips: int) -> Iterator[Workers]:
    """Hold what compares so many clips.

    Args:
        cluster: where jobs of the run are run.
        num_clips: how many clips there are.

    Raises:
        UserError: the engine cannot run here.
    """
    if num_clips < IN_PROCESSES_FROM:
        yield HERE
        return
    with open_engine(cluster) as engine:
        yield Workers(run_tasks=_Tasks(engine), share_files=not engine.spans_machines)


class _Tasks:
    """Runs tasks on an engine; see `neighbours.base.RunTasks`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        try:
            with closing(self._engine.run_tasks(function, tasks)) as results:
                yield from results
        except WorkerDiedError as error:
            raise UserError(
                f"the worker that compared clips with one another died {error.deaths} times "
                f"({error.what}). Most often it was killed for memory: give it more, or fewer "
                "workers (--set cluster.num_cpus=N). Nothing of the run was changed."
            ) from error
