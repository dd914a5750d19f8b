"""Operations that models need, counted from their shapes.

Counted are matmuls and convolutions, two operations for each multiply-add; the rest is small. Of a
part that is trained, the forward pass counts once; the gradient of its input once more, where
something before it is trained; the gradient of its weights once more. Attention multiplies what
comes in with what comes in: its gradients count twice wherever one of them is needed. What a
training does twice to save memory does not count: this is the work that utilisation is measured by.

Video-XL-Pro's language model and projector:

* projector: 2 (C D + D^2) for each token before the 2 x 2 pool;
* language model: 2 W for each position, W its matrices without embedding and head; attention
  2 L P^2 A for a sample of P positions (half of 4 L P^2 A: each position sees those before it), L
  layers, A the width of all heads;
* head: 2 D V for each label token, for logits are computed at those alone.

Left out: norms, rotary embeddings, the selector and its pass over the question, LoRA's matrices;
of a compressor that is frozen behind a trained tower, one of its attention's gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vxp_model.models.parameter_counts import head_width, layer_matrices
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.models.video_xl_pro_shape import ModelShape
from vxp_model.modules.shapes import KERNEL, STRIDES, DTSConfig, VisionConfig

PEAK_TFLOPS: Final = {"a100": 312.0, "h100": 989.0, "h200": 989.0, "l40s": 362.0, "rtx4090": 165.0}
"""bf16 with fp32 sums, dense, as the maker says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmFlops:
    """What Video-XL-Pro takes, forward and backward, of each thing that goes in."""

    frame: float
    """A frame in the tower."""
    group: float
    """A group of frames, in compressor and projector."""
    position: float
    """A position in the language model's matrices."""
    squared_position: float
    """Of a sample of P positions, P^2 times: attention."""
    label: float
    """A label token in the head."""

    @classmethod
    def of(
        cls, config: ModelShape, trained: Collection[str], *, with_lora: bool = False
    ) -> MllmFlops:
        """Count.

        Args:
            config: of the model.
            trained: its parts.
            with_lora: of the language model, only matrices beside its own are trained.
        """
        text: Any = config.text_config
        vision, grid = config.vision, config.grid
        projector = 2 * grid**2 * (vision.width * text.hidden_size + text.hidden_size**2)
        compressor = 0.0 if config.dts is None else compressor_flop_per_group(config.dts, grid)
        tower, dts, projecting = (_passes(part, trained) for part in ("tower", "dts", "projector"))
        language = 2 if with_lora else _passes("language_model", trained)
        attention = 2 * text.num_hidden_layers * text.num_attention_heads * head_width(text)
        return cls(
            frame=tower * tower_flop_per_frame(vision),
            group=dts * compressor + projecting * projector,
            position=language * 2 * decoder_matrices(config),
            squared_position=(1 if language == 1 else 3) * attention,
            label=language * 2 * text.hidden_size * text.vocab_size,
        )

    def of_samples(
        self, *, num_frames: int, num_groups: int, positions: Sequence[int], num_labels: int
    ) -> float:
        """Count what samples take.

        Args:
            num_frames: of all of them, an image being one.
            num_groups: of frames; an image is one.
            positions: of each, after selection.
            num_labels: label tokens.
        """
        return (
            self.frame * num_frames
            + self.group * num_groups
            + self.position * sum(positions)
            + self.squared_position * sum(count**2 for count in positions)
            + self.label * num_labels
        )


def decoder_matrices(config: ModelShape) -> int:
    """Count the numbers in the language model's matrices, without embedding and head."""
    text: Any = config.text_config
    layer = sum(rows * columns for rows, columns in layer_matrices(text).values())
    return int(text.num_hidden_layers * layer)


def peak_tflops(device_name: str) -> float | None:
    """Return the bf16 peak that a card's maker names; None for one that is not known.

    Args:
        device_name: as CUDA gives it: 'NVIDIA A100-SXM4-80GB'.
    """
    name = device_name.lower().replace(" ", "")
    return next((peak for known, peak in PEAK_TFLOPS.items() if known in name), None)


def tower_flop_per_frame(vision: VisionConfig) -> float:
    """Count the tower's operations on one frame: 641 G for the default."""
    tokens, width = vision.grid**2, vision.width
    layer = 2 * tokens * (4 * width**2 + 2 * width * vision.mlp_width) + 4 * tokens**2 * width
    return 2 * tokens * 3 * vision.patch_px**2 * width + vision.layer * layer


def compressor_flop_per_group(dts: DTSConfig, grid: int) -> float:
    """Count the compressor's forward operations on one group."""
    frames, flop = dts.temporal_factor, 0.0
    for stride in STRIDES[frames]:
        flop += _attention_flop(dts, grid, frames)
        frames //= stride
        flop += _conv_flop(dts, grid, frames)
    return flop


def recot_flop_per_group(config: ReCoTConfig) -> float:
    """Count the forward operations of compressor and decoder on one group."""
    dts, grid, frames = config.dts, config.grid, config.dts.temporal_factor
    decoder = _attention_flop(dts, grid, frames) + _conv_flop(dts, grid, frames)
    return compressor_flop_per_group(dts, grid) + decoder


def _passes(part: str, trained: Collection[str]) -> int:
    """Return how often a part's forward operations count: 1, 2 or 3."""
    order: tuple[str, ...] = ("tower", "dts", "projector", "selector", "language_model")
    before = any(other in trained for other in order[: order.index(part)])
    # A part's own inner activations need a gradient as soon as its weights do.
    return 1 + (before or part in trained) + (part in trained)


def _attention_flop(dts: DTSConfig, grid: int, frames: int) -> float:
    """Count both attentions on a group of so many frames."""
    width, indices = dts.width, grid**2
    tokens = frames * indices
    projections = 2 * 2 * tokens * 4 * width**2
    spatial = 4 * tokens * indices * width
    temporal = 4 * 2 * tokens * frames * width  # keys and values, and a table for each
    return projections + spatial + temporal


def _conv_flop(dts: DTSConfig, grid: int, frames_out: int) -> float:
    return 2 * frames_out * grid**2 * KERNEL**3 * dts.width**2
