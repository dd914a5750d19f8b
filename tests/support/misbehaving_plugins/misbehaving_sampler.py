"""A frame sampler that does to the worker, outside the sandbox, what the number of frames says."""

import os
import signal
import time

import numpy as np
from misbehaving_marks import first_time, hoard

from support.flat_videos import COSTS_FROM, HAS_NO_MEMORY, HOARDS, KILLS, KILLS_ONCE, TAKES_LONG
from vxp_data.core.frame_sampling import uniform


def sample(num_available: int, num_frames: int) -> np.ndarray:
    """Die, raise, sleep, or sample."""
    if num_available == KILLS or (num_available == KILLS_ONCE and first_time("sampler")):
        os.kill(os.getpid(), signal.SIGKILL)
    if num_available == HAS_NO_MEMORY:
        raise MemoryError
    if num_available == HOARDS:
        hoard()
    if num_available == TAKES_LONG:
        first_time(f"{TAKES_LONG} frames by {os.getpid()} at {time.time()}")
        time.sleep(1.0)
    if num_available >= COSTS_FROM:
        begun_s = time.time()
        time.sleep((num_available - COSTS_FROM) / 10)
        first_time(f"cost {num_available} {begun_s} {time.time()}")
    return uniform(num_available, num_frames)
