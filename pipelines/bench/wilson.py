"""Shares of right answers, with how far chance may have moved them."""

from __future__ import annotations

import math
from typing import Any, Final

NORMAL_95: Final = 1.959964
"""Standard deviations to either side that hold 95 % of a normal distribution."""


def share(right: int, asked: int) -> dict[str, Any]:
    """Return a share of right answers with its 95 % Wilson interval."""
    mean, z2 = right / asked, NORMAL_95**2
    middle = (mean + z2 / (2 * asked)) / (1 + z2 / asked)
    half = NORMAL_95 / (1 + z2 / asked) * math.sqrt(mean * (1 - mean) / asked + z2 / (4 * asked**2))
    return {
        "questions": asked,
        "right": right,
        "accuracy": round(mean, 4),
        "wilson_95": [round(middle - half, 4), round(middle + half, 4)],
    }
