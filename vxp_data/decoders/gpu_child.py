"""In the child that holds a GPU: decode several files at once, each on a thread of its own.

One child a GPU: its CUDA context costs seconds and half a gigabyte of the card. An NVDEC engine
decodes one file at a time, and cards have up to seven, hence the threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from vxp_data.decoders.base import FramePlan, FrameSize
from vxp_data.decoders.child import Decoded, check_decoder, decode_file
from vxp_data.errors import MediaError
from vxp_data.records import Media

AT_ONCE: Final = 8
"""Files that a child decodes at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuJob:
    """One decode; see `child.decode_file`."""

    decoder: str
    path: str
    media: Media
    plan: FramePlan
    size: FrameSize
    timeout_s: float

    @property
    def num_bytes(self) -> int:
        """What its frames take."""
        return len(self.plan) * self.size.height_px * self.size.width_px * 3


@dataclass(frozen=True, slots=True)
class GpuDecoded:
    """What a decode gave, but for the pixels, and the CPU seconds of its thread."""

    decoded: Decoded
    cpu_s: float


GpuResult = GpuDecoded | MediaError


def warm_up(decoder: str) -> tuple[int, int]:
    """Start CUDA, where that is not done; return this process and what it holds, bytes.

    Raises:
        UserError: the decoder cannot work here.
    """
    _check_once(decoder)
    return os.getpid(), resident_bytes(os.getpid())


@cache
def _check_once(decoder: str) -> None:
    check_decoder(decoder)


def decode_together(jobs: Sequence[GpuJob], offsets: Sequence[int]) -> list[GpuResult]:
    """Decode each job on a thread, its frames into the arena from its offset on."""
    with ThreadPoolExecutor(max_workers=len(jobs)) as threads:
        return list(threads.map(_decode, jobs, offsets))


def resident_bytes(pid: int) -> int:
    """Return the main memory that a process holds for itself; 0 where it is gone.

    Not what it maps: CUDA maps the card's memory and its libraries, gigabytes of both.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) << 10 if lines else 0


def _decode(job: GpuJob, offset: int) -> GpuResult:
    started_s = time.thread_time()
    try:
        decoded = decode_file(job.decoder, job.path, job.media, job.plan, job.size, offset=offset)
    except MediaError as error:
        return error
    return GpuDecoded(decoded, time.thread_time() - started_s)
