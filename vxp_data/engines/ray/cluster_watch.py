"""Ends a Ray Data job that no longer fits its cluster, so that the rest of it is planned anew.

Ray Data takes GPUs that come, and cores for decoding. It starts a lost encoder actor again where
there is a GPU; where others hold all that are left there is none, and the clips that were on their
way to it would wait for ever. How many encoders share the cores, and what part of a cluster a run
may have, are numbers that a job begins with.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from vxp_data.engines.ray.capacity import alive_nodes, waits_to_start
from vxp_data.engines.ray.ledger import RayCrashLedger

_POLL_S: Final = 2.0
_SETTLED_S: Final = 15.0
"""How long a cluster must be larger or smaller before its job ends: machines come one by one."""
_SMALL: Final = 0.1
"""Of what a job was planned with: a change that is not worth to plan anew for."""


class ClusterWatch:
    """Watches a cluster for the length of a Ray Data job.

    Args:
        ledger: knows the job's encoder actors, and ends its tasks.
        wait_s: how long a machine may take to be replaced while nothing comes back.
        size: what the job would be planned with now; None: Ray Data follows by itself.

    Attributes:
        has_ended_job: the job is to end: its plan does not fit.
    """

    def __init__(
        self, ledger: RayCrashLedger, wait_s: float, size: Callable[[], float] | None
    ) -> None:
        self._ledger, self._wait_s, self._size = ledger, wait_s, size
        self._planned = size() if size else 0.0
        self._other_since_s: float | None = None
        self._gone_since_s: float | None = None
        self._heard_s = time.monotonic()
        self.has_ended_job = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vxp-cluster-watch", daemon=True)

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

    def heard(self) -> None:
        """Note that something has come back."""
        self._heard_s = time.monotonic()

    def _watch(self) -> None:
        import ray

        while not self._ended.wait(_POLL_S):
            try:
                if self._gives_up_lost_encoders() or self._is_another_cluster():
                    return
            except ray.exceptions.RayError:
                continue  # the crash ledger is moving to another machine, or Ray is going down

    def _gives_up_lost_encoders(self) -> bool:
        """End the encoders that cannot come back, where only they are waited for: ends the job."""
        import ray

        gone, now_s = self._gone_encoders(), time.monotonic()
        self._gone_since_s = (self._gone_since_s or now_s) if gone else None
        since_s = max(self._gone_since_s or now_s, self._heard_s)
        if not gone or now_s - since_s < self._wait_s:
            return False
        self._end_job()
        for actor in gone:  # what they had in hand has failed then, which ends the job at once
            ray.kill(actor)
        return True

    def _gone_encoders(self) -> list[Any]:
        """Return the actors that wait for a machine since theirs is gone."""
        alive = {node["NodeID"] for node in alive_nodes()}
        lost = [place for place in self._ledger.encoders() if place.node_id not in alive]
        return [place.actor for place in lost if waits_to_start(place.actor_id)]

    def _is_another_cluster(self) -> bool:
        """End the job's tasks where the cluster has long been larger or smaller than planned."""
        if self._size is None:
            return False
        now_s = time.monotonic()
        is_other = abs(self._size() - self._planned) > _SMALL * self._planned
        self._other_since_s = (self._other_since_s or now_s) if is_other else None
        if self._other_since_s is None or now_s - self._other_since_s < _SETTLED_S:
            return False
        self._end_job()
        return True

    def _end_job(self) -> None:
        """Have each of its tasks fail that begins from now on."""
        self.has_ended_job = True
        self._ledger.next_job()
