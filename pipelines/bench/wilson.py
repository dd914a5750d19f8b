"""Shares of right answers, with how far chance may have moved them."""

from __future__ import annotations

from typing import Any

from vxp_model.eval.statistics import wilson


def share(right: int, asked: int) -> dict[str, Any]:
    """Return a share of right answers with its 95 % Wilson interval."""
    low, high = wilson(right, asked)
    return {
        "questions": asked,
        "right": right,
        "accuracy": round(right / asked, 4),
        "wilson_95": [round(low, 4), round(high, 4)],
    }
