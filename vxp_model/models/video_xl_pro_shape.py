"""The shape of a Video-XL-Pro model, as arithmetic reads it: loads neither torch nor transformers.

What is built and stored is `video_xl_pro_config.VideoXLProConfig`; it has all that is asked for
here, under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from vxp_model.errors import UserError
from vxp_model.models import byte_tokenizer
from vxp_model.models.presets import recot_preset
from vxp_model.modules.shapes import DTSConfig, VisionConfig


class ModelShape(Protocol):
    """What a config and a preset's shape have in common."""

    @property
    def vision(self) -> VisionConfig:
        """The tower."""

    @property
    def dts(self) -> DTSConfig | None:
        """The compressor; None: there is none, and a group is one frame."""

    @property
    def grid(self) -> int:
        """Tokens along a side of a frame."""

    @property
    def temporal_factor(self) -> int:
        """Frames that are compressed into one."""

    @property
    def group_tokens(self) -> int:
        """Visual tokens of a group of frames."""

    @property
    def chunk_frames(self) -> int:
        """Frames encoded at once."""

    @property
    def context_limit(self) -> int:
        """Positions for prompt and answer."""

    @property
    def text_config(self) -> Any:
        """The language model's, with the names of `TextShape`."""

    @property
    def text_width(self) -> int:
        """Channels of the language model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """A language model of Qwen2's build, under transformers' names."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool
    initializer_range: float = 0.02
    max_position_embeddings: int = 32_768
    model_type: str = "qwen2"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoXLProShape:
    """A preset; the defaults are the paper's model but for the language model."""

    text_config: TextShape
    vision: VisionConfig = field(default_factory=VisionConfig)
    dts: DTSConfig | None = field(default_factory=DTSConfig)
    """None: no compressor."""
    grid: int = 24
    pool_stride: int = 2
    chunk_frames: int = 32
    context_limit: int = 32_768
    visual_token_id: int = 151_654

    @property
    def temporal_factor(self) -> int:
        """Frames that are compressed into one; 1: none are."""
        return 1 if self.dts is None else self.dts.temporal_factor

    @property
    def group_tokens(self) -> int:
        """Visual tokens of a group of frames: 144 for the defaults."""
        return (self.grid // self.pool_stride) ** 2

    @property
    def text_width(self) -> int:
        """Channels of the language model, D."""
        return self.text_config.hidden_size


_TINY: Final = recot_preset("tiny")

SHAPES: Final = {
    # Qwen2.5-Instruct of these sizes
    "3b": VideoXLProShape(
        text_config=TextShape(
            hidden_size=2048,
            intermediate_size=11_008,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=2,
            vocab_size=151_936,
            tie_word_embeddings=True,
        )
    ),
    "7b": VideoXLProShape(
        text_config=TextShape(
            hidden_size=3584,
            intermediate_size=18_944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            vocab_size=152_064,
            tie_word_embeddings=False,
        )
    ),
    # For tests: 4 visual tokens a group, and the vocabulary of `byte_tokenizer`.
    "tiny": VideoXLProShape(
        text_config=TextShape(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=byte_tokenizer.NUM_TOKENS,
            tie_word_embeddings=True,
            # 64**-0.5. At transformers' 0.02, which suits widths of thousands, a model this narrow
            # hears so little of its visual tokens that it never learns to look at them.
            initializer_range=0.125,
        ),
        vision=_TINY.vision,
        dts=_TINY.dts,
        grid=_TINY.grid,
        chunk_frames=8,
        visual_token_id=byte_tokenizer.VISUAL_ID,
    ),
}


def preset_shape(name: str, *, temporal_factor: int | None = None) -> VideoXLProShape:
    """Return the shape of a preset: '3b' (the paper's), '7b', or 'tiny' for tests.

    Args:
        name: of the preset.
        temporal_factor: instead of its own; 1: without a compressor.

    Raises:
        UserError: no preset of that name.
    """
    if name not in SHAPES:
        raise UserError(f"unknown preset {name!r}. Known: {', '.join(SHAPES)}.")
    shape = SHAPES[name]
    if temporal_factor is None or shape.dts is None:
        return shape
    dts = None if temporal_factor == 1 else replace(shape.dts, temporal_factor=temporal_factor)
    return replace(shape, dts=dts)
