"""The shape of images; panoramas and phone videos end for reasons of their own."""

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.filters import FilterRule, RowFacts


def _shape(facts: RowFacts) -> NDArray[np.float64]:
    known_N = (facts.width_px_N > 0) & (facts.height_px_N > 0)
    shape_N = np.full(len(known_N), np.nan)
    return np.divide(facts.width_px_N, facts.height_px_N, out=shape_N, where=known_N)


SHAPE = FilterRule(
    name="shape",
    version=1,
    unit="width / height",
    low=0.0,
    high=np.inf,
    below="filter:too_tall",
    above="filter:too_wide",
    needs="media",
    of_rows=_shape,
)
