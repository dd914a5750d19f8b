"""Parts are merged while a run goes on, and the rest at its end: so that few big ones are left.

Full merges run as tasks of the run's engine beside the embedding; a thread of the driver begins
them. It holds no rows, and what goes wrong in it is tried again at the end, where it is told.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from vxp_data.engines.base import Engine
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.part_index import write_whole_index
from vxp_data.pipeline.run_dir.part_merging import (
    end_merges,
    full_merges,
    last_merges,
    merge,
    merge_here,
)

LOOK_S: Final = 30.0
"""How often the thread looks for parts to merge."""
_PATIENCE_S: Final = 10.0
"""How long a run that was interrupted waits for merges that go on."""
HERE_PARTS: Final = 256
"""Parts that are merged in the driver at the end: sooner done than workers are started."""


@contextmanager
def merging(run: RunDirectory, engine: Engine) -> Iterator[None]:
    """Merge the parts that the block writes, and those that were there; index them last.

    Args:
        run: whose lock we hold.
        engine: what the block embeds with.

    Raises:
        UserError: a part cannot be read, or nothing be written; nothing is lost.
    """
    end_merges(run)
    thread = _MergingThread(run, engine)
    thread.start()
    try:
        yield
    except BaseException:
        thread.leave()
        raise
    thread.end()
    merge_rest(run, engine)


def merge_rest(run: RunDirectory, engine: Engine) -> None:
    """Merge all small parts, then index all parts in one file; see `merging`."""
    end_merges(run)
    while (tasks := last_merges(run)) and sum(len(task.sources) for task in tasks) > HERE_PARTS:
        for _ in engine.run_tasks(merge, tasks):
            pass
    merge_here(run)
    write_whole_index(run)


class _MergingThread:
    """Merges in the background what fills whole parts.

    Args:
        run: its directory.
        engine: of its block.
    """

    def __init__(self, run: RunDirectory, engine: Engine) -> None:
        self._run, self._engine = run, engine
        self._ended, self._is_left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="vxp-merge", daemon=True)
        self._at_first = frozenset(run.parts.names())

    def start(self) -> None:
        """Begin; parts of earlier are merged once the engine has written others."""
        self._thread.start()

    def end(self) -> None:
        """Begin no more merges, and wait for those that were begun."""
        self._ended.set()
        self._thread.join()

    def leave(self) -> None:
        """End, and wait for no more than the merge that goes on, and not long."""
        self._is_left.set()
        self._ended.set()
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                tasks = full_merges(self._run)
                if {name for task in tasks for name in task.sources} <= self._at_first:
                    continue  # there is nothing to merge, or the engine may not be running yet
                with closing(self._engine.run_tasks(merge, tasks)) as results:
                    for _ in results:
                        if self._is_left.is_set():
                            return
            except Exception:  # noqa: BLE001 - whatever it is, the rest is merged at the end
                return
