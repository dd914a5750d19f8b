"""What a device gives at best, and what is held of its memory: the yardsticks of the benchmarks."""

from __future__ import annotations

import resource
import statistics
import time
from typing import Final

import torch

MATMUL_SIDE: Final = 8192


def matmul_flops(device: torch.device, *, side: int = MATMUL_SIDE, repeats: int = 20) -> float:
    """Measure the rate of a large bf16 matmul, FLOP/s.

    Args:
        device: where.
        side: rows and columns of both matrices.
        repeats: timed, after five that are not; the median counts.
    """
    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    took_s = []
    for _ in range(5 + repeats):
        wait_for(device)
        began_s = time.perf_counter()
        torch.mm(left, right)
        wait_for(device)
        took_s.append(time.perf_counter() - began_s)
    return 2 * side**3 / statistics.median(took_s[5:])


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that was held: the allocator's on a GPU, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
