"""What misbehaving parts have in common: what happens once, and eating memory."""

import os
import time
from pathlib import Path

import numpy as np


def first_time(what: str) -> bool:
    """Leave a mark; return whether it is the first."""
    try:
        Path(os.environ["VXP_TEST_MARKS"], what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def hoard() -> None:
    """Take 100 MiB after the other until somebody ends it; after 10 GiB, raise."""
    held = []
    for _ in range(100):
        held.append(np.ones(100 << 20, dtype=np.uint8))
        time.sleep(0.05)
    raise MemoryError("nobody stopped it")
