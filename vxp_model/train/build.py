"""From a recipe's settings to the model they ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from vxp_data.settings.file import Settings
from vxp_model.models.presets import recot_preset
from vxp_model.models.recot import ReCoTConfig, ReCoTModel
from vxp_model.settings.recot import EngineSettings, ModelSettings


def model_config(settings: ModelSettings) -> ReCoTConfig:
    """Overlay a recipe's settings on its preset.

    Raises:
        UserError: no such preset, or the values do not go together.
    """
    preset = recot_preset(settings.preset)
    own = _given(settings, "target_norm", "masked_weight", "visible_weight")
    return replace(
        preset,
        dts=replace(preset.dts, **_given(settings, "temporal_factor")),
        sgm=replace(preset.sgm, **_given(settings.sgm, *type(settings.sgm).model_fields)),
        **own,
    )


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


def _given(settings: Settings, *names: str) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
