"""Files to reports with processes of this machine.

Decoding workers -> clips in shared memory, a bounded number -> encoder workers -> reports. Where
the encoder is cheap, the decoding workers embed, too. What a worker had not handed over when it
died is done again by another.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from vxp_data.core.task_packing import pack_files
from vxp_data.engines.files import num_clips, without_clips
from vxp_data.engines.local.shared_table import Parcel, whole
from vxp_data.engines.local.workers import (
    Crew,
    Died,
    Done,
    LateResult,
    Result,
    Worker,
    WorkerPool,
    WorkerTask,
)
from vxp_data.engines.stage_plan import MAX_WORKER_DEATHS, TASKS_PER_WORKER, StagePlan

_BATCH_WAIT_S: Final = 10.0
"""How long clips wait for more to be embedded with them: as much is done again after a kill."""
_LAST_WORDS_S: Final = 1.0
_DECODE: Final = "decode"
_EMBED: Final = "embed"


class EmbedJob:
    """One run over files.

    Args:
        files: FILE_SCHEMA, dearest first.
        plan: of the stages.
        decoders: take files.
        encoders: take clips; None: the decoders give reports.
        crew: of both pools.
    """

    def __init__(
        self,
        files: pa.Table,
        plan: StagePlan,
        decoders: WorkerPool,
        encoders: WorkerPool | None,
        crew: Crew,
    ) -> None:
        self._plan = plan
        self._decoders, self._encoders, self._crew = decoders, encoders, crew
        starts = pack_files(
            files["num_bytes"].to_numpy(),
            workers=plan.decode.workers,
            files_per_task=plan.decode.rows,
            tasks_per_worker=TASKS_PER_WORKER,
            cheap_files_per_task=plan.decode.cheap_rows,
        )
        self._files = deque(
            WorkerTask(key=f"{_DECODE} {i}", tables=[files.slice(i, j - i)])
            for i, j in pairwise(starts.tolist())
        )
        self._is_back_C = np.zeros(num_clips(files), dtype=np.bool_)
        """Clips that a decoder has handed over."""
        self._clips: deque[tuple[float, Parcel]] = deque()
        """Those that wait for an encoder, and since when."""
        self._batches: deque[WorkerTask] = deque()
        """Those that were with an encoder when it died."""
        self._paused: deque[Worker] = deque()
        """Decoders that wait until there is room for more clips."""
        self._num_batches = self._num_embedded = 0
        self._num_deaths: Counter[str] = Counter()

    def reports(self) -> Iterator[pa.Table]:
        """Return every clip's report, as they come."""
        while self._num_embedded < len(self._is_back_C):
            self._hand_out_files()
            if self._encoders is not None:
                self._hand_out_clips(self._encoders)
            for event in self._crew.events():
                match event:
                    case LateResult():
                        yield self._report(event)
                    case Result():
                        yield from self._decoded(event)
                    case Died():
                        self._again(event)
                    case Done():
                        self._num_deaths.pop(event.task.key, None)
        self._hear_last_words()

    def activity(self) -> tuple[int, int]:
        """Return how many clips wait for an encoder, and how many decoders wait for that."""
        return len(self._clips), len(self._paused)

    def close(self) -> None:
        """Free the clips that wait."""
        for task in self._batches:
            task.close()
        for _, clip in self._clips:
            WorkerTask(key="", tables=[clip]).close()

    def _hand_out_files(self) -> None:
        self._decoders.start_for(len(self._files))
        while self._files and self._decoders.can_take():
            self._decoders.give(self._files.popleft())

    def _hand_out_clips(self, encoders: WorkerPool) -> None:
        assert self._plan.embed is not None
        rows = self._plan.embed.rows
        num_left = len(self._is_back_C) - self._num_embedded
        encoders.start_for(-(-num_left // rows))  # not those that wait here, which are always few
        while encoders.can_take():
            if self._batches:
                encoders.give(self._batches.popleft())
            elif len(self._clips) >= rows or self._is_time():
                taken = [self._clips.popleft()[1] for _ in range(min(rows, len(self._clips)))]
                encoders.give(WorkerTask(key=f"{_EMBED} {self._num_batches}", tables=taken))
                self._num_batches += 1
            else:
                break
        while self._paused and self._has_room():
            self._paused.popleft().go_on()

    def _is_time(self) -> bool:
        """Whether clips should be embedded though they are few: no more will come, or not soon."""
        if not self._clips:
            return False
        waited_s = time.monotonic() - self._clips[0][0]
        return bool(self._is_back_C.all()) or waited_s > _BATCH_WAIT_S

    def _has_room(self) -> bool:
        assert self._plan.embed is not None
        return len(self._clips) < self._plan.embed.workers * self._plan.embed.rows

    def _decoded(self, result: Result) -> Iterator[pa.Table]:
        """Take over what a decoder has: reports, or a clip with its frames."""
        if self._encoders is None:
            report = whole(result.tables[0])
            self._is_back_C[report["clip"].to_numpy()] = True
            self._num_embedded += len(report)
            result.worker.go_on()
            yield report
            return
        self._is_back_C[result.value] = True
        self._clips.append((time.monotonic(), result.tables[0]))
        self._paused.append(result.worker)

    def _report(self, result: LateResult) -> pa.Table:
        report = whole(result.tables[0])
        self._num_embedded += len(report)
        self._num_deaths.pop(result.task.key, None)
        return report

    def _again(self, died: Died) -> None:
        """Queue what a worker died of again, without what it had handed over."""
        task = died.task
        if task.key.startswith(_EMBED):
            num_clips_left = len(task.tables)
            self._batches.append(task)
        else:
            task.tables = [without_clips(task.tables[0], self._is_back_C)]
            num_clips_left = num_clips(task.tables[0])
            if num_clips_left:
                self._files.append(task)
        self._num_deaths[task.key] += 1
        if self._num_deaths[task.key] > (MAX_WORKER_DEATHS + 1) * (num_clips_left + 1):
            raise RuntimeError(
                f"{self._num_deaths[task.key]} workers died over the same {num_clips_left} clips, "
                f"and not while they worked on one of them ({died.how}); this is a bug in a stage"
            )

    def _hear_last_words(self) -> None:
        """Wait for workers whose results are all here, so that they can be used again."""
        until_s = time.monotonic() + _LAST_WORDS_S
        pools = [self._decoders, *([self._encoders] if self._encoders else [])]
        while any(pool.num_working() for pool in pools) and time.monotonic() < until_s:
            while self._paused:
                self._paused.popleft().go_on()
            list(self._crew.events())
