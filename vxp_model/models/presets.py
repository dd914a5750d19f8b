"""Named sizes of the models."""

from __future__ import annotations

from typing import Final

from vxp_model.errors import UserError
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.modules.shapes import DTSConfig, SGMConfig, VisionConfig

RECOT_PRESETS: Final = {
    # The paper's model: 93.5 M compressor, 46.8 M decoder, behind 397.7 M of SigLIP SO400M/14.
    "3b": ReCoTConfig(),
    # For tests and a first try on any machine: 89 k compressor, 4 x 4 tokens a frame.
    "tiny": ReCoTConfig(
        vision=VisionConfig(image_px=56, patch_px=14, width=32, mlp_width=64, num_heads=2, layer=2),
        grid=4,
        dts=DTSConfig(width=32, norm_groups=4),
        sgm=SGMConfig(num_queries=2),
    ),
}


def recot_preset(name: str) -> ReCoTConfig:
    """Return the config of a preset.

    Raises:
        UserError: no preset of that name.
    """
    if name not in RECOT_PRESETS:
        raise UserError(f"unknown preset {name!r}. Known: {', '.join(sorted(RECOT_PRESETS))}.")
    return RECOT_PRESETS[name]
