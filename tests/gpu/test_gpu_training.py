"""One card trains at full size: ReCoT and fine-tuning under ZeRO-2, memory beside the estimate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from support.gpu_checks.packages import TRAINING, require_packages

if TYPE_CHECKING:
    import torch

    from vxp_model.train.distributed import DistributedContext

pytestmark = pytest.mark.gpu

OFFLOADS = ["none", "torch"]
"""The optimizer on the card, and in main memory."""


@pytest.fixture(autouse=True)
def _packages() -> None:
    require_packages(*TRAINING)


@pytest.mark.parametrize("offload", OFFLOADS)
def test_recot_steps_at_full_size_stay_within_the_estimate(
    card: torch.device,  # noqa: ARG001 - empty
    cuda_context: DistributedContext,
    figures: dict[str, Any],
    offload: str,
) -> None:
    """Expect 15 s each: 540 M weights drawn on the CPU, two steps of ten windows."""
    from support.gpu_checks import training

    engine = {"zero_stage": 2, "offload": offload, "precision": "bf16", "device": "cuda"}
    recipe = training.recot_recipe("3b", engine=engine)
    figures |= training.recot_steps(recipe, cuda_context, steps=2)
    assert all(math.isfinite(loss) for loss in figures["losses"])
    assert 0.5 < figures["peak_share_of_estimate"] < 1.1


@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_fine_tuning_step_at_full_size_stays_within_the_estimate(
    card: torch.device,  # noqa: ARG001 - empty
    cuda_context: DistributedContext,
    figures: dict[str, Any],
    offload: str,
) -> None:
    """Expect 20 s on the card, 75 s with the optimizer of 3.6 B weights in main memory."""
    from support.gpu_checks import training
    from vxp_model.train.mllm.estimate import SampleShape

    engine = {"zero_stage": 2, "offload": offload, "precision": "bf16", "device": "cuda"}
    recipe = training.mllm_recipe("3b", engine=engine)
    steps = 2 if offload == "none" else 1
    figures |= training.sft_steps(recipe, cuda_context, SampleShape(), steps=steps)
    assert all(math.isfinite(loss) for loss in figures["losses"])
    assert figures["positions"] == pytest.approx(figures["positions_estimated"], rel=0.01)
    assert 0.5 < figures["peak_share_of_estimate"] < 1.1
