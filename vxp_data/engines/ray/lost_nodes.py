"""What happens when a machine is lost that is not replaced: the job is planned anew without it.

Ray starts a lost encoder actor again where there is a GPU. Where the others hold all that are left
there is none, and the clips that were on their way to it would wait for ever.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from vxp_data.engines.ray.ledger import RayCrashLedger

_POLL_S: Final = 2.0


class NodeWatch:
    """Ends encoder actors that cannot come back, which ends the Ray Data job that waits for them.

    Args:
        ledger: knows the job's encoder actors.
        wait_s: how long a machine may take to be replaced.
    """

    def __init__(self, ledger: RayCrashLedger, wait_s: float) -> None:
        self._ledger, self._wait_s = ledger, wait_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vxp-node-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=10 * _POLL_S)

    def _watch(self) -> None:
        import ray

        gone_since_s: float | None = None
        while not self._ended.wait(_POLL_S):
            try:
                gone = self._gone_encoders()
            except ray.exceptions.RayError:
                continue  # the crash ledger is moving to another machine, or Ray is going down
            now_s = time.monotonic()
            gone_since_s = (gone_since_s or now_s) if gone else None
            if gone_since_s is not None and now_s - gone_since_s >= self._wait_s:
                for actor in gone:
                    ray.kill(actor)
                return  # the job ends, or had nothing on its way to them

    def _gone_encoders(self) -> list[Any]:
        """Return the actors whose machine is gone."""
        import ray

        known = ray.nodes()  # type: ignore[no-untyped-call]
        alive = {node["NodeID"] for node in known if node["Alive"]}
        return [actor for node, actor in self._ledger.encoders() if node not in alive]
