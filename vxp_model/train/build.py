"""From a recipe's settings to the model they ask for."""

from __future__ import annotations

import torch

from vxp_model.models.recot import ReCoTModel
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.settings.recot import EngineSettings


def new_model(config: ReCoTConfig, *, seed: int) -> ReCoTModel:
    """Build the trained parts with new weights, on the CPU; same seed, same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReCoTModel(config)


def uses_bf16(settings: EngineSettings, device: torch.device) -> bool:
    """Whether weights and tokens are bf16."""
    if settings.precision == "auto":
        return device.type == "cuda"
    return settings.precision == "bf16"
