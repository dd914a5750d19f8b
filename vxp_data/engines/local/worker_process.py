"""What runs inside a worker process: it serves one task after the other until it is ended.

Only the standard library is imported here before the environment is set: how many threads numpy
and torch start with is read when they are imported.

The worker hears ('start', pickled stage), ('task', key, value) with tables, ('begun', answer) and
('go',). It says ('ready',), ('begin', key), ('name', key, thing), ('result', value) with tables,
('done',) and ('failed', error, words). Where a task's result comes later it says ('later',), is
given another task, and says ('late result',) with tables when it has it, in the tasks' order.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from vxp_data.lean_start import import_pyarrow_alone

if TYPE_CHECKING:
    import pyarrow as pa

    from vxp_data.engines.local.stages import Later, Stage


_UNFINISHED: Final = 2
"""Tasks of which a worker has yet to give the result when it begins another."""


class _ParentGoneError(BaseException):
    """The parent wants no more, or has died; no stage may take it for an error of its own."""


def serve(connection: Connection, parent_pid: int, environment: Mapping[str, str]) -> None:
    """Serve stages and tasks until the other end is closed. The target of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_pyarrow_alone()
    parent = _Parent(connection, parent_pid)
    background = _Background(parent)
    stage: Stage | None = None
    try:
        while True:
            (kind, *given), tables = parent.hear()
            try:
                if kind == "start":
                    stage = pickle.loads(given[0])()
                    parent.say(("ready",))
                else:
                    assert stage is not None
                    key, value = given
                    _work(stage, key, value, tables, parent, background)
            except Exception as error:  # noqa: BLE001 - the parent raises it
                parent.fail(error)
    except _ParentGoneError:
        return


class _Parent:
    """The other end: what is said and heard, and the crash ledger, which is there."""

    names_first = True  # to name a thing is to write into a pipe

    def __init__(self, connection: Connection, pid: int) -> None:
        self._connection, self._pid = connection, pid
        self._speaking = threading.Lock()

    def say(self, message: tuple[Any, ...], *tables: pa.Table) -> None:
        from vxp_data.engines.local.shared_table import send_message

        try:
            with self._speaking:
                send_message(self._connection, self._pid, message, tables)
        except OSError as error:
            raise _ParentGoneError from error

    def fail(self, error: Exception) -> None:
        self.say(("failed", _picklable(error), "".join(traceback.format_exception(error))))

    def hear(self) -> tuple[Any, list[pa.Table]]:
        from vxp_data.engines.local.shared_table import receive_message, whole

        try:
            message, tables = receive_message(self._connection)
        except (EOFError, OSError) as error:
            raise _ParentGoneError from error
        return message, [whole(table) for table in tables]

    def begin(self, task: str) -> tuple[int, dict[str, int]]:
        self.say(("begin", task))
        (_, answer), _ = self.hear()
        begun: tuple[int, dict[str, int]] = answer
        return begun

    def name(self, task: str, thing: str | None) -> None:
        self.say(("name", task, thing))


class _Background:
    """Finishes the last tasks while the next one is worked on: one at a time, another may wait."""

    def __init__(self, parent: _Parent) -> None:
        self._parent = parent
        self._threads: list[threading.Thread] = []

    def start(self, finish: Later) -> None:
        """Finish a task beside what comes, after those before."""
        before = self._threads[-1] if self._threads else None
        thread = threading.Thread(target=self._run, args=(finish, before), name="vxp-background")
        self._parent.say(("later",))
        thread.start()
        self._threads.append(thread)
        while len(self._threads) > _UNFINISHED:
            self._threads.pop(0).join()

    def wait(self) -> None:
        """Wait until nothing is left to finish."""
        while self._threads:
            self._threads.pop().join()

    def _run(self, finish: Later, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        try:
            try:
                tables = finish()
            except Exception as error:  # noqa: BLE001 - the parent raises it
                self._parent.fail(error)
            else:
                self._parent.say(("late result",), *tables)
        except _ParentGoneError:
            return


def _work(
    stage: Stage,
    key: str,
    value: Any,
    tables: list[pa.Table],
    parent: _Parent,
    background: _Background,
) -> None:
    from vxp_data.engines.crash_ledger import Attempt

    attempt = Attempt(parent, key)
    if attempt.again:  # if this process dies now, it is of nothing else
        background.wait()
    for result in stage(value, tables, attempt):
        if callable(result):
            background.start(result)
            return
        own, results = result
        parent.say(("result", own), *results)
        parent.hear()  # 'go': there is room for more
    parent.say(("done",))


def _end_with_parent() -> None:
    """End this process when its parent does: also in the middle of a task."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever a third party's error does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
