"""The shapes of the parts, as settings and arithmetic read them: loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vxp_model.errors import require

KERNEL = 3
"""Side of the compressor's convolutions, in time and over the grid."""

MAX_DISTANCE = 64
"""The relative position tables reach this many frames either way: 129 rows, as released."""

STRIDES = {2: (2, 1), 4: (2, 2), 8: (4, 2)}
"""Stride in time of the two stages, by temporal factor."""

GradMode = Literal["ste", "rank", "ste+rank", "none", "additive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """The shape of the tower; the defaults are SigLIP SO400M/14 at 384 px."""

    image_px: int = 384
    """Side of the square input, pixels."""

    patch_px: int = 14
    """Side of a patch, pixels; what is left over at the right and bottom edge is not seen."""

    width: int = 1152
    """Channels, C."""

    mlp_width: int = 4304
    """Channels inside each layer's MLP."""

    num_heads: int = 16
    """Attention heads; divides the width."""

    layer: int = 26
    """Layers that are run, of the model's 27: the features are the output of the last of them."""

    def __post_init__(self) -> None:
        for name in ("image_px", "patch_px", "width", "mlp_width", "num_heads", "layer"):
            value = getattr(self, name)
            require(value >= 1, f"vision.{name} must be 1 or more, got {value}.")
        require(
            self.image_px >= self.patch_px,
            f"vision.image_px {self.image_px} is less than one patch of {self.patch_px} px.",
        )
        require(
            self.width % self.num_heads == 0,
            f"vision.width {self.width} is not a multiple of its num_heads {self.num_heads}.",
        )

    @property
    def grid(self) -> int:
        """Patches along a side: 27 for the defaults."""
        return self.image_px // self.patch_px


@dataclass(frozen=True, slots=True, kw_only=True)
class DTSConfig:
    """The shape of the compressor and of its decoder."""

    width: int = 1152
    """Channels, C: the vision tower's."""

    temporal_factor: int = 4
    """Frames that become one: 2, 4 or 8. The number of stages, and so of parameters, stays."""

    num_heads: int = 1
    """Heads of both attentions; divides the width."""

    norm_groups: int = 32
    """Channel groups of the norms; divides the width."""

    legacy_frame_layout: bool = False
    """Mix up frames and channels as the released inference code does: for its weights only."""

    legacy_relpos_transpose: bool = False
    """Add the key position table transposed, as the released code does: for its weights only."""

    def __post_init__(self) -> None:
        require(
            self.temporal_factor in STRIDES,
            f"dts.temporal_factor must be 2, 4 or 8, got {self.temporal_factor}.",
        )
        for name in ("num_heads", "norm_groups"):
            value = getattr(self, name)
            require(
                value >= 1 and self.width >= 1 and self.width % value == 0,
                f"dts.{name} must divide dts.width {self.width}, got {value}.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SGMConfig:
    """What is masked, and how the queries learn."""

    num_queries: int = 4
    """Learned queries of each kind, K."""

    ratio: float = 0.9
    """Share of each frame's tokens that is masked, in [0, 1).

    With `unmasked_share` 0.25, 0.9 gave better tokens than half of the tokens hidden in every
    sample, the default before, by both outcomes fixed beforehand: manifests/runs/sgm.json."""

    ratio_start: float | None = None
    """Share at the first step, from where it goes straight to `ratio`, up or down; None: `ratio`
    throughout."""

    ratio_ramp: float = 0.0
    """Share of the training over which the ratio goes from `ratio_start` to `ratio`, in [0, 1]."""

    unmasked_share: float = 0.25
    """Share of the samples that are not masked at all, in [0, 1): the compressor is used on whole
    frames, and learns from these what they look like. Without them, heavily masked training leaves
    it with errors on whole frames that are larger than those of guessing the mean."""

    pool: float = 0.75
    """Masked tokens are drawn from this share of lowest scores, in (0, 1]; 1: random masking."""

    grad_mode: GradMode = "rank"
    """How scores learn: a straight-through gate, ranking by the reconstruction error, both, not at
    all, or scores added to the tokens that stay.

    "rank" is the default because the gate can learn the reverse, and then stays there: early on, a
    moving token that is let through shows as a ghost in the other frames of its group, so that
    hiding it lowers the error. With the real compressor, on clips of one colour with a moving patch
    (5 x 5 tokens, 300 steps), the patch came to score above the background in all pairs with
    "rank" and in a tenth or less with "ste"; a wider gate did not change that."""

    rank_weight: float = 0.1
    """Weight of the ranking loss beside the reconstruction's; for the modes with "rank"."""

    def __post_init__(self) -> None:
        require(self.num_queries >= 1, f"sgm.num_queries must be >= 1, got {self.num_queries}.")
        require(0 < self.pool <= 1, f"sgm.pool must be in (0, 1], got {self.pool}.")
        require(0 <= self.ratio_ramp <= 1, f"sgm.ratio_ramp must be in [0, 1]: {self.ratio_ramp}.")
        require(self.rank_weight >= 0, f"sgm.rank_weight must be >= 0, got {self.rank_weight}.")
        for name in ("ratio", "ratio_start", "unmasked_share"):
            share = getattr(self, name)
            require(share is None or 0 <= share < 1, f"sgm.{name} must be in [0, 1), got {share}.")
        require(
            (self.ratio_start is None) == (self.ratio_ramp == 0),
            "sgm.ratio_start and sgm.ratio_ramp go together: got "
            f"{self.ratio_start} and {self.ratio_ramp}. Set both, or neither.",
        )
        known = get_args(GradMode)
        require(
            self.grad_mode in known,
            f"sgm.grad_mode must be one of {', '.join(known)}; got {self.grad_mode!r}.",
        )

    @property
    def straight_through(self) -> bool:
        """Whether the mask lets a gradient through to the scores."""
        return self.grad_mode in ("ste", "ste+rank")

    @property
    def ranks(self) -> bool:
        """Whether the ranking loss is part of the training."""
        return self.grad_mode in ("rank", "ste+rank")

    def ratio_at(self, progress: float) -> float:
        """Return the mask ratio at a share of the training, 0 at its start and 1 at its end."""
        if self.ratio_start is None or progress >= self.ratio_ramp:
            return self.ratio
        return self.ratio_start + (self.ratio - self.ratio_start) * progress / self.ratio_ramp
