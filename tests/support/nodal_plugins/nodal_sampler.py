"""A frame sampler that marks the machine it runs on, and takes its time."""

import numpy as np
from nodal_marks import dawdle, mark

from vxp_data.core.frame_sampling import uniform


def sample(num_available: int, num_frames: int) -> np.ndarray:
    """Sample uniformly."""
    mark("decode")
    dawdle("decode")
    return uniform(num_available, num_frames)
