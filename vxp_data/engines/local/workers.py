"""Worker processes as the parent sees them: started, given tasks, heard, replaced when they die."""

from __future__ import annotations

import math
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any, Final

from vxp_data.decoders.child_process import ChildContext
from vxp_data.engines.crash_ledger import CrashLedger
from vxp_data.engines.local.machine import memory_in_use, resident_bytes
from vxp_data.engines.local.shared_table import Parcel, SharedTable, receive_message, send_message
from vxp_data.engines.local.stages import Stage
from vxp_data.engines.local.worker_process import serve
from vxp_data.engines.stage_plan import MAX_START_DEATHS
from vxp_data.errors import UserError

_TICK_S: Final = 0.25
"""How often memory is looked at."""
_ONE_THREAD: Final = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
}
"""Results must not depend on how many there are: 2 change a last bit of 0.2 % of the values."""
_WORTH_S: Final = 3.0
"""Work that must be left for one more worker: to start one takes a quarter as much."""
_TIDY_S: Final = 1.0
"""How long a worker may take to end by itself."""
_HOARD_BYTES: Final = 256 << 20
"""A worker with less is not to blame for a full memory."""

Start = Callable[[], Stage]


@dataclass(slots=True)
class WorkerTask:
    """What one worker does at a time."""

    key: str
    """What tells it from all others of the job."""
    value: Any = None
    tables: list[Parcel] = field(default_factory=list)
    """Shared ones are closed when the task is done."""
    is_answered: bool = False
    """All that it gives has come."""

    def close(self) -> None:
        """Free what is shared."""
        for table in self.tables:
            if isinstance(table, SharedTable):
                table.close()


class Worker:
    """One process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.connection, theirs = ChildContext().Pipe(duplex=True)
        self._process = ChildContext().Process(
            target=serve, args=(theirs, os.getpid(), {**_ONE_THREAD, **environment}), daemon=True
        )
        self._process.start()
        theirs.close()
        self.is_ready = False
        self.task: WorkerTask | None = None
        self.unfinished: deque[WorkerTask] = deque()
        """Those before, whose results come later, in this order."""
        self.killed_for_memory = False

    @property
    def tasks(self) -> list[WorkerTask]:
        """What it has in hand."""
        return [*self.unfinished, *([self.task] if self.task else [])]

    @property
    def num_bytes(self) -> int:
        """How much memory it holds."""
        return resident_bytes(self._process.pid or 0)

    def start(self, stage: bytes) -> None:
        """Send it a stage to load; it says when it is ready."""
        self.is_ready = False
        self._say(("start", stage))

    def give(self, task: WorkerTask) -> None:
        """Send it a task."""
        self.task = task
        self._say(("task", task.key, task.value), task.tables)

    def begun(self, answer: tuple[int, dict[str, int]]) -> None:
        """Send it what the crash ledger says of the attempt that it begins."""
        self._say(("begun", answer))

    def go_on(self) -> None:
        """Send it word to go on after a result."""
        self._say(("go",))

    def end_for_memory(self) -> None:
        """End it; that it died is heard of where its messages are read."""
        self.killed_for_memory = True
        self._process.kill()

    def let_go(self) -> None:
        """Close the connection: it ends by itself, and tidies up what its stages hold."""
        self.connection.close()

    def wait(self) -> None:
        """Wait until it has ended, a while."""
        self._process.join(timeout=_TIDY_S)
        self._process.kill()
        self._process.join()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def how_it_died(self) -> str:
        """Return in words how it ended; waits for it."""
        self._process.join(timeout=1)
        if self.killed_for_memory:
            return "ended by us, because it held the most when memory ran out"
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _say(self, message: tuple[Any, ...], tables: Sequence[Parcel] = ()) -> None:
        with suppress(OSError):  # it has just died, which is heard of where its messages are read
            send_message(self.connection, self._process.pid or 0, message, tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A worker has a result, and waits for `go_on`."""

    worker: Worker
    task: WorkerTask
    value: Any
    tables: list[Parcel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A worker is done with a task."""

    task: WorkerTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A worker has died in the middle of a task."""

    task: WorkerTask
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LateResult:
    """A worker has the result of a task, and is done with it."""

    task: WorkerTask
    tables: list[Parcel]


Event = Result | Done | LateResult | Died


class WorkerPool:
    """The workers of one stage.

    Args:
        what: they are, in a message.
        start: makes their stage, in each of them.
        environments: of the workers, as many as there may be.
        spare: workers of earlier stages of the same environment; taken before others are started,
            and left for later stages. None: there are none, and none are left.
    """

    def __init__(
        self,
        what: str,
        start: Start,
        environments: Sequence[Mapping[str, str]],
        spare: list[Worker] | None,
    ) -> None:
        self._what = what
        self._start = pickle.dumps(start)
        self._free = list(environments)[::-1]
        self._spare = spare
        self._ledger = CrashLedger()
        self._deaths_at_start = 0
        self._num_done = 0
        self._began_s = self._first_done_s = math.inf
        """When a first worker was ready, and a first task done."""
        self.workers: dict[Worker, Mapping[str, str]] = {}

    def can_take(self) -> bool:
        """Whether a task could be given to a worker now."""
        return any(worker.is_ready and worker.task is None for worker in self.workers)

    def num_working(self) -> int:
        """Count the workers that have a task."""
        return sum(bool(worker.tasks) for worker in self.workers)

    def start_for(self, num_waiting: int) -> None:
        """Start workers for tasks that wait: one at first, the others if that is worth it."""
        if self.workers and not self._is_worth_it(num_waiting):
            return
        num_open = sum(worker.task is None for worker in self.workers)
        num_wanted = num_waiting if self.workers else min(1, num_waiting)
        while self._free and num_open < num_wanted:
            environment = self._free.pop()
            worker = self._taken_over() or Worker(environment)
            self.workers[worker] = environment
            worker.start(self._start)
            num_open += 1

    def _taken_over(self) -> Worker | None:
        """Take a spare worker; a job of another thread may do the same at this moment."""
        with suppress(IndexError):
            return self._spare.pop() if self._spare else None
        return None

    def _is_worth_it(self, num_waiting: int) -> bool:
        """Whether those that are there would take long over tasks of the kind that is done."""
        now_s = time.monotonic()
        if self._num_done < 2:  # the first one has taken what is only paid once
            return now_s - self._began_s > _WORTH_S
        return (now_s - self._first_done_s) / (self._num_done - 1) * num_waiting > _WORTH_S

    def give(self, task: WorkerTask) -> None:
        """Send a task to a worker that can take it."""
        next(w for w in self.workers if w.is_ready and w.task is None).give(task)

    def receive(self, worker: Worker) -> list[Event]:
        """Take the next message of a worker; return what it says of a job.

        Raises:
            UserError: a stage's own, or workers die while they start.
            Exception: of a stage.
        """
        try:
            message, tables = receive_message(worker.connection)
        except (EOFError, OSError):
            return self._lose(worker)
        match message:
            case ("ready",):
                worker.is_ready, self._deaths_at_start = True, 0
                self._began_s = min(self._began_s, time.monotonic())
            case ("begin", key):
                worker.begun(self._ledger.begin(key))
            case ("name", key, thing):
                self._ledger.name(key, thing)
            case ("result", value):
                assert worker.task is not None
                return [Result(worker=worker, task=worker.task, value=value, tables=tables)]
            case ("later",):
                assert worker.task is not None
                worker.unfinished.append(worker.task)
                worker.task = None
            case ("late result",):
                task = worker.unfinished.popleft()
                self._finish(task)
                return [LateResult(task=task, tables=tables)]
            case ("done",):
                assert worker.task is not None
                task, worker.task = worker.task, None
                self._finish(task)
                return [Done(task=task)]
            case ("failed", error, words):
                if not isinstance(error, UserError):
                    error.add_note(f"In a {self._what}:\n{words}")
                raise error
        return []

    def _finish(self, task: WorkerTask) -> None:
        self._ledger.forget(task.key)
        self._num_done += 1
        self._first_done_s = min(self._first_done_s, time.monotonic())
        task.close()

    def release(self) -> None:
        """Keep those that are idle as spare, and end the others."""
        for worker in self.workers:
            if self._spare is not None and worker.is_ready and not worker.tasks:
                self._spare.append(worker)
                continue
            worker.kill()
            for task in worker.tasks:
                task.close()
        self.workers.clear()

    def _lose(self, worker: Worker) -> list[Event]:
        """Forget a worker that has died; another is started in its place when one is needed."""
        how = worker.how_it_died()
        worker.kill()
        self._free.append(self.workers.pop(worker))
        if not worker.is_ready:
            self._deaths_at_start += 1
            if self._deaths_at_start == MAX_START_DEATHS:
                raise UserError(
                    f"{MAX_START_DEATHS} {self._what}s in a row died while they started, the last "
                    f"one {how}. Most often memory does not suffice: use fewer (--set "
                    "cluster.num_cpus=N) or a smaller model."
                )
        return [Died(task=task, how=how) for task in worker.tasks]


class Crew:
    """All pools of a job: waits for their workers, and keeps memory from running out.

    Args:
        pools: of the job's stages.
        memory_threshold: share of memory in use from which the worker that holds most is ended.
    """

    def __init__(self, pools: Sequence[WorkerPool], memory_threshold: float) -> None:
        self._pools = pools
        self._threshold = memory_threshold
        self._looked_s = 0.0

    def events(self) -> Iterator[Event]:
        """Wait a moment for workers; return what has happened."""
        pool_of = {w.connection: (pool, w) for pool in self._pools for w in pool.workers}
        for connection in wait(list(pool_of), timeout=_TICK_S):
            pool, worker = pool_of[connection]  # type: ignore[index]
            yield from pool.receive(worker)
        if time.monotonic() - self._looked_s >= _TICK_S:
            self._looked_s = time.monotonic()
            self._spare_memory()

    def release(self) -> None:
        """Keep idle workers as spare, end the others: the job has ended well or was left."""
        for pool in self._pools:
            pool.release()

    def _spare_memory(self) -> None:
        if memory_in_use() < self._threshold:
            return
        workers = [worker for pool in self._pools for worker in pool.workers]
        most = max(workers, key=lambda worker: worker.num_bytes, default=None)
        if most is not None and most.num_bytes > _HOARD_BYTES:
            most.end_for_memory()
