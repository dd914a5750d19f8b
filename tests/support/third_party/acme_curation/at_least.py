"""Keep so many rows of each subset, and those as little redundant as the last of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.thresholds import Cut


def at_least(redundancy_N: NDArray[np.float64], sample_ids: Sequence[str], value: float) -> Cut:
    """Keep the `value` least redundant rows and all that tie with the last of them."""
    del sample_ids  # ties all stay
    num = min(int(value), len(redundancy_N))
    threshold = float(np.sort(redundancy_N)[num - 1]) if num else -np.inf
    return Cut(threshold, redundancy_N <= threshold)
