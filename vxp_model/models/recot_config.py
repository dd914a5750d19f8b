"""The shape of ReCoT's autoencoder: loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from vxp_model.errors import require
from vxp_model.modules.shapes import DTSConfig, SGMConfig, VisionConfig

TargetNorm = Literal["none", "layernorm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReCoTConfig:
    """The whole autoencoder; the defaults are the paper's model."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    """The tower."""

    grid: int = 24
    """Tokens along a side, after resampling the tower's patch grid."""

    dts: DTSConfig = field(default_factory=DTSConfig)
    """The compressor, and its decoder."""

    sgm: SGMConfig = field(default_factory=SGMConfig)
    """The masking."""

    target_norm: TargetNorm = "none"
    """What is rebuilt: the tower's tokens, or each of them layer-normalised."""

    masked_weight: float = 1.0
    """Weight of a masked token's error; a visible one's is 1."""

    visible_weight: float = 1.0
    """Weight of a visible token's error; 0: the loss is about masked tokens alone, and a sample of
    which nothing is masked has none."""

    def __post_init__(self) -> None:
        require(self.grid >= 1, f"grid must be 1 or more, got {self.grid}.")
        require(
            self.vision.width == self.dts.width,
            f"vision.width {self.vision.width} and dts.width {self.dts.width} must be equal.",
        )
        known = get_args(TargetNorm)
        require(
            self.target_norm in known,
            f"target_norm must be one of {', '.join(known)}; got {self.target_norm!r}.",
        )
        require(
            min(self.masked_weight, self.visible_weight) >= 0
            and max(self.masked_weight, self.visible_weight) > 0,
            "masked_weight and visible_weight must be 0 or more, and one of them more: got "
            f"{self.masked_weight} and {self.visible_weight}.",
        )
