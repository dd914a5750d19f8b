"""Independent tasks with processes of this machine, one for each worker at a time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Sequence

from vxp_data.engines.base import WorkerDiedError
from vxp_data.engines.local.workers import Crew, Died, Done, Result, WorkerPool, WorkerTask
from vxp_data.engines.stage_plan import MAX_TASK_DEATHS


def results(
    tasks: Sequence[WorkerTask], workers: WorkerPool, crew: Crew
) -> Generator[tuple[int, Result], None, None]:
    """Hand out tasks; return the index of each and its only result, as they come.

    Raises:
        WorkerDiedError: workers died over a task again and again.
    """
    index_of = {task.key: index for index, task in enumerate(tasks)}
    waiting = deque(tasks)
    deaths: Counter[str] = Counter()
    num_done = 0
    while num_done < len(tasks):
        workers.start_for(len(waiting))
        while waiting and workers.can_take():
            workers.give(waiting.popleft())
        for event in crew.events():
            index = index_of[event.task.key]
            match event:
                case Result():
                    event.task.is_answered = True
                    yield index, event
                    event.worker.go_on()
                case Done():
                    num_done += 1
                case Died():
                    num_done += event.task.is_answered
                    if not event.task.is_answered:
                        deaths[event.task.key] += 1
                        waiting.append(event.task)
                    if deaths[event.task.key] == MAX_TASK_DEATHS:
                        raise WorkerDiedError(index, MAX_TASK_DEATHS, event.how)
