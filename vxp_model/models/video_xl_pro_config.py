"""The settings of a Video-XL-Pro model, as transformers keeps them in config.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, Final

from transformers import AutoConfig, PreTrainedConfig, Qwen2Config, SiglipVisionConfig

from vxp_model.errors import require
from vxp_model.models.video_xl_pro_shape import preset_shape
from vxp_model.modules.selector import SelectorConfig
from vxp_model.modules.shapes import DTSConfig, VisionConfig

TEXT_MODELS: Final = ("qwen2", "qwen3")
"""Families of language models; Qwen2.5 is of the type 'qwen2'."""

VISION_FIELDS: Final = {
    "image_px": "image_size",
    "patch_px": "patch_size",
    "width": "hidden_size",
    "mlp_width": "intermediate_size",
    "num_heads": "num_attention_heads",
    "layer": "num_hidden_layers",
}
"""Fields of VisionConfig and what transformers calls them."""


class VideoXLProConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Vision tower, compressor, projector, selector, language model.

    The defaults are the paper's model but for the language model, whose own configuration is given
    as `text_config`. Values are checked when the model is built.
    """

    model_type = "video_xl_pro"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "selections"]
    """Of the output: what transformers' Trainer does not gather."""
    sub_configs: ClassVar[dict[str, Any]] = {
        "text_config": AutoConfig,
        "vision_config": SiglipVisionConfig,
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    """The tower: a SigLIP vision configuration whose `num_hidden_layers` are the layers run."""
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    """The language model's configuration."""
    grid: int = 24
    """Tokens along a side of a frame, after resampling the tower's patch grid."""
    temporal_factor: int = 4
    """Frames that are compressed into one; 1: none are, and there is no compressor."""
    dts_num_heads: int = 1
    """Heads of the compressor's attentions."""
    dts_norm_groups: int = 32
    """Channel groups of the compressor's norms."""
    legacy_frame_layout: bool = False
    """See DTSConfig; for released weights."""
    legacy_relpos_transpose: bool = False
    """See DTSConfig; for released weights."""
    visual_rotary: bool = False
    """Rotate visual tokens and time text by their position before selection; for released weights,
    which were trained so. The paper does not name it, and its successor left it out."""
    pool_stride: int = 2
    """Projected tokens are averaged in blocks of this side: 2 leaves 36 a frame, 1 leaves 144."""
    visual_token_id: int = 151_654
    """The token that stands where a visual token goes: Qwen's `<|vision_pad|>`."""
    context_limit: int = 32_768
    """Positions for prompt and answer: above it, the selector leaves visual tokens out."""
    query_encoder: str = "llm"
    """The question's states for the selector: 'llm', its last layer, or 'embed', its embeddings."""
    query_max_tokens: int = 256
    """Of a longer question, the last so many tokens count for the selector."""
    selector_aggregate: str = "mean"
    """See SelectorConfig.aggregate."""
    selector_drop_min: float = 0.05
    """See SelectorConfig.drop_min."""
    selector_drop_max: float = 0.30
    """See SelectorConfig.drop_max."""
    selector_full_share: float = 0.0
    """See SelectorConfig.full_share."""
    selector_drops_images: bool = False
    """See SelectorConfig.drops_images."""
    selector_keep_time: str = "with_tokens"
    """See SelectorConfig.keep_time."""
    chunk_frames: int = 32
    """Frames encoded at once; bounds memory."""
    random_parts: list[str] | None = None
    """Parts whose weights were drawn at random and never trained: a note for whoever uses them."""
    tie_word_embeddings: bool = False
    """Of this model as such; the language model ties its own as its configuration says."""

    def __post_init__(self, **kwargs: Any) -> None:
        if self.vision_config is None:
            self.vision_config = vision_to_transformers(VisionConfig())
        elif isinstance(self.vision_config, dict):
            self.vision_config = SiglipVisionConfig(**self.vision_config)
        if self.text_config is None:
            self.text_config = Qwen2Config()
        elif isinstance(self.text_config, dict):
            values = dict(self.text_config)
            self.text_config = AutoConfig.for_model(values.pop("model_type", "qwen2"), **values)
        if self.random_parts is None:
            self.random_parts = []
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    @property
    def vision(self) -> VisionConfig:
        """The tower's shape in our terms."""
        theirs = self.vision_config
        return VisionConfig(**{ours: getattr(theirs, name) for ours, name in VISION_FIELDS.items()})

    @property
    def dts(self) -> DTSConfig | None:
        """The compressor's shape; None: there is none."""
        if self.temporal_factor == 1:
            return None
        return DTSConfig(
            width=self.vision.width,
            temporal_factor=self.temporal_factor,
            num_heads=self.dts_num_heads,
            norm_groups=self.dts_norm_groups,
            legacy_frame_layout=self.legacy_frame_layout,
            legacy_relpos_transpose=self.legacy_relpos_transpose,
        )

    @property
    def selector(self) -> SelectorConfig:
        """The selector's settings."""
        return SelectorConfig(
            aggregate=self.selector_aggregate,  # type: ignore[arg-type] # checked there
            drop_min=self.selector_drop_min,
            drop_max=self.selector_drop_max,
            full_share=self.selector_full_share,
            drops_images=self.selector_drops_images,
            keep_time=self.selector_keep_time,  # type: ignore[arg-type]
        )

    @property
    def group_tokens(self) -> int:
        """Visual tokens of a group of `temporal_factor` frames: 144 for the defaults."""
        return (self.grid // self.pool_stride) ** 2

    @property
    def text_width(self) -> int:
        """Channels of the language model, D."""
        return int(self.text_config.hidden_size)  # type: ignore[union-attr]

    def check(self) -> None:
        """Check what no part checks by itself.

        Raises:
            UserError: a value is out of range, or two do not fit.
        """
        kind = self.text_config.model_type  # type: ignore[union-attr]
        require(
            kind in TEXT_MODELS,
            f"text_config.model_type must be one of {', '.join(TEXT_MODELS)}; got {kind!r}.",
        )
        require(
            self.pool_stride in (1, 2) and self.grid >= 1 and self.grid % self.pool_stride == 0,
            f"pool_stride must be 1 or 2 and divide grid {self.grid}, got {self.pool_stride}.",
        )
        require(
            self.query_encoder in ("llm", "embed"),
            f"query_encoder must be 'llm' or 'embed', got {self.query_encoder!r}.",
        )
        for name in ("context_limit", "query_max_tokens", "chunk_frames"):
            value = getattr(self, name)
            require(value >= 1, f"{name} must be 1 or more, got {value}.")


def vision_to_transformers(vision: VisionConfig) -> SiglipVisionConfig:
    """Return a tower's shape as transformers' configuration: the layers that are run, no head."""
    values = {name: getattr(vision, ours) for ours, name in VISION_FIELDS.items()}
    return SiglipVisionConfig(**values, vision_use_head=False)


def video_xl_pro_preset(name: str, *, temporal_factor: int | None = None) -> VideoXLProConfig:
    """Return the configuration of a preset, to be built; see `preset_shape`.

    Args:
        name: of the preset.
        temporal_factor: instead of its own; 1: without a compressor.

    Raises:
        UserError: no preset of that name.
    """
    shape = preset_shape(name)
    dts = shape.dts or DTSConfig()
    text = {key: value for key, value in asdict(shape.text_config).items() if key != "model_type"}
    return VideoXLProConfig(
        vision_config=vision_to_transformers(shape.vision),
        text_config=Qwen2Config(
            **text, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
        ),
        grid=shape.grid,
        temporal_factor=temporal_factor or shape.temporal_factor,
        dts_norm_groups=dts.norm_groups,
        pool_stride=shape.pool_stride,
        visual_token_id=shape.visual_token_id,
        context_limit=shape.context_limit,
        chunk_frames=shape.chunk_frames,
    )
