"""The full-size model answers about 1,024 frames: seconds to the first token, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.gpu_checks.packages import TOWER, require_packages

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.gpu

WORKSPACE_BYTES = 8 * 10**9
"""What `vxp-model fit` leaves for activations unless told otherwise."""


def test_an_answer_about_1024_frames_comes_in_seconds_and_within_the_estimate(
    card: torch.device, figures: dict[str, Any]
) -> None:
    """Expect 30 s: 3.6 B weights are drawn on the card, 1,024 frames encoded, 33 tokens said."""
    require_packages(*TOWER)
    from support.gpu_checks import generation

    figures |= generation.answer("3b", card, num_frames=1024, new_tokens=33)
    assert figures["new_tokens"] == 33
    assert figures["positions"] == figures["positions_estimated"]
    assert figures["visual_tokens_kept"] < figures["visual_tokens"]  # above the context limit
    assert figures["first_token_s"] < 30
    estimate = figures["estimate_bytes"]
    assert 0.9 * estimate < figures["peak_bytes"] < estimate + WORKSPACE_BYTES
