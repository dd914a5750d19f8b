"""From a recipe's settings to the shape they ask for. Loads no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vxp_data.settings.file import Settings
from vxp_model.models.presets import recot_preset
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.settings.recot import ModelSettings


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


def _given(settings: Settings, *names: str) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
