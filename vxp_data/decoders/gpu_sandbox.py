"""The sandbox of a GPU's child: as `sandbox`, but its resident size is watched from outside.

CUDA reserves more memory than any limit of the kernel's would let it: what counts is what it holds.
A decode that hangs gets SIGKILL with the child and all that it was doing; what else was going on is
done again, file by file, so that only the one that is to blame fails.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.gpu_child import (
    GpuDecoded,
    GpuJob,
    GpuResult,
    decode_together,
    resident_bytes,
    warm_up,
)
from vxp_data.decoders.sandbox import NO_LIMIT, FrameArena, Sandbox
from vxp_data.errors import MediaError

START_S: Final = 120.0
"""What CUDA, torch and torchcodec may take to start."""
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class GpuFrames:
    """What a decode gave, with its pixels."""

    result: GpuDecoded
    frames_FHWC: NDArray[np.uint8]


class GpuSandbox:
    """One child on one GPU, started when first needed.

    Args:
        memory_bytes: main memory that a decode may take beyond what the child holds when it is
            idle.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._arena = FrameArena()
        self._sandbox = Sandbox(NO_LIMIT, self._arena)

    def decode(self, jobs: Sequence[GpuJob]) -> list[GpuFrames | MediaError]:
        """Decode some files at once; should the child die of that, one after another.

        Raises:
            UserError: the GPU cannot be used.
        """
        try:
            return self._decode(jobs)
        except MediaError as error:
            if len(jobs) == 1:
                return [error]
        return [self.decode([job])[0] for job in jobs]

    def close(self) -> None:
        """Stop the child."""
        self._sandbox.close()
        self._arena.close()

    def _decode(self, jobs: Sequence[GpuJob]) -> list[GpuFrames | MediaError]:
        pages = [-(-job.num_bytes // mmap.ALLOCATIONGRANULARITY) for job in jobs]
        offsets = [page * mmap.ALLOCATIONGRANULARITY for page in accumulate(pages, initial=0)]
        self._arena.reserve(offsets[-1])
        pid, idle_bytes = self._sandbox.call(warm_up, jobs[0].decoder, timeout_s=START_S).value
        with _watched(pid, idle_bytes + len(jobs) * self._memory_bytes):
            timeout_s = max(job.timeout_s for job in jobs)
            call = (decode_together, jobs, offsets[:-1])
            results: list[GpuResult] = self._sandbox.call(*call, timeout_s=timeout_s).value
        return [
            GpuFrames(result, self._arena.take(result.decoded.shape, offset))
            if isinstance(result, GpuDecoded)
            else result
            for result, offset in zip(results, offsets, strict=False)
        ]


@contextmanager
def _watched(pid: int, most_bytes: int) -> Iterator[None]:
    """Kill a process, in the block, once it holds more."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_S):
            if resident_bytes(pid) > most_bytes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
