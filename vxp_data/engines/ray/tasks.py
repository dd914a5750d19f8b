"""Independent tasks and tables on Ray, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa
import ray

from vxp_data.engines.base import MapTable, WorkerDiedError
from vxp_data.engines.ray.capacity import Limits
from vxp_data.engines.ray.embed_job import encoder_pool, set_limits, user_error_inside
from vxp_data.engines.stage_plan import MAX_TASK_DEATHS, StagePlan
from vxp_data.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def run_tasks(
    function: Callable[[T], R], tasks: Sequence[T], num_at_once: Callable[[], int]
) -> Generator[tuple[int, R], None, None]:
    """Call a function with each task; see `Engine.run_tasks`.

    Args:
        function: to call.
        tasks: what with.
        num_at_once: how many are handed to Ray at a time; asked again and again.
    """
    remote: Any = ray.remote(num_cpus=1, max_retries=MAX_TASK_DEATHS - 1)(_call)
    waiting = list(enumerate(tasks))[::-1]
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < num_at_once():
                index, task = waiting.pop()
                running[remote.remote(function, task)] = index
            (ready,), _ = ray.wait(list(running), num_returns=1)
            index = running.pop(ready)
            yield index, _result(ready, index)
    finally:
        for reference in running:
            ray.cancel(reference)


def _call(function: Callable[[T], R], task: T) -> R:
    return function(task)


def _result(reference: Any, index: int) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(*error.cause.args) from None
        raise
    except ray.exceptions.RayError as error:
        what = str(error).strip().partition("\n")[0]
        raise WorkerDiedError(index, MAX_TASK_DEATHS, what) from error


def map_tables(
    start: Callable[[], MapTable], tables: Sequence[pa.Table], plan: StagePlan, limits: Limits
) -> Iterator[pa.Table]:
    """Return what each table becomes; see `Engine.map_tables`."""
    set_limits(limits)
    stage = plan.embed or plan.decode  # an encoder cheap enough to decode beside, so its texts
    context = ray.data.DataContext.get_current()
    context.raise_original_map_exception = True
    dataset: Any = ray.data.from_arrow(list(tables))
    dataset = dataset.map_batches(
        _TableActor,
        batch_size=None,
        batch_format="pyarrow",
        fn_constructor_args=(start,),
        num_cpus=stage.num_cpus,
        num_gpus=stage.num_gpus or None,
        memory=stage.memory_bytes,
        compute=encoder_pool(replace(stage, workers=min(stage.workers, len(tables)))),
    )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayError as error:
        if user_error := user_error_inside(error):
            raise user_error from None
        raise


class _TableActor:
    """Holds what works on tables, in a Ray actor."""

    def __init__(self, start: Callable[[], MapTable]) -> None:
        self._start = start
        self._map: MapTable | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._map is None:  # an error in __init__ would lose all but its text
            self._map = self._start()
        return self._map(table)
