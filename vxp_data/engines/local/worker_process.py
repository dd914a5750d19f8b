"""What runs inside a worker process: it serves one task after the other until it is ended.

Only the standard library is imported here before the environment is set: how many threads numpy
and torch start with is read when they are imported.

The worker hears ('start', pickled stage), ('task', key, value) with tables, ('begun', answer) and
('go',). It says ('ready',), ('begin', key), ('name', key, thing), ('result', value) with tables,
('done',) and ('failed', error, words).
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
from typing import TYPE_CHECKING, Any

from vxp_data.lean_start import import_pyarrow_alone

if TYPE_CHECKING:
    import pyarrow as pa

    from vxp_data.engines.local.stages import Stage


class _ParentGoneError(BaseException):
    """The parent wants no more, or has died; no stage may take it for an error of its own."""


def serve(connection: Connection, parent_pid: int, environment: Mapping[str, str]) -> None:
    """Serve stages and tasks until the other end is closed. The target of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_pyarrow_alone()
    parent = _Parent(connection, parent_pid)
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
                    _work(stage, key, value, tables, parent)
            except Exception as error:  # noqa: BLE001 - the parent raises it
                parent.say(("failed", _picklable(error), traceback.format_exc()))
    except _ParentGoneError:
        return


class _Parent:
    """The other end: what is said and heard, and the crash ledger, which is there."""

    names_first = True  # to name a thing is to write into a pipe

    def __init__(self, connection: Connection, pid: int) -> None:
        self._connection, self._pid = connection, pid

    def say(self, message: tuple[Any, ...], *tables: pa.Table) -> None:
        from vxp_data.engines.local.shared_table import send_message

        try:
            send_message(self._connection, self._pid, message, tables)
        except OSError as error:
            raise _ParentGoneError from error

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


def _work(stage: Stage, key: str, value: Any, tables: list[pa.Table], parent: _Parent) -> None:
    from vxp_data.engines.crash_ledger import Attempt

    for result, results in stage(value, tables, Attempt(parent, key)):
        parent.say(("result", result), *results)
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
