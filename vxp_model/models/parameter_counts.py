"""How many parameters the parts have, from their shapes: nothing is built, torch is not loaded.

C is the width of tower and compressor, D that of the language model.
"""

from __future__ import annotations

from typing import Any

from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.models.video_xl_pro_shape import ModelShape
from vxp_model.modules.shapes import KERNEL, MAX_DISTANCE, STRIDES, DTSConfig, VisionConfig


def tower_parameters(vision: VisionConfig) -> int:
    """Count the tower's parameters: 397.7 M for the default."""
    width, mlp = vision.width, vision.mlp_width
    layer = 4 * (width**2 + width) + 2 * width * mlp + mlp + width + 4 * width
    return 3 * vision.patch_px**2 * width + width + vision.grid**2 * width + vision.layer * layer


def compressor_parameters(dts: DTSConfig) -> int:
    """Count the compressor's parameters: 93.5 M for the default."""
    stages = len(STRIDES[dts.temporal_factor])
    return dts.temporal_factor * dts.width + stages * _stage_parameters(dts)


def recot_parameters(config: ReCoTConfig) -> int:
    """Count what ReCoT trains: compressor, decoder, and the masking's queries and token."""
    dts = config.dts
    decoder = dts.temporal_factor * dts.width + _stage_parameters(dts)
    masking = (2 * config.sgm.num_queries + 1) * dts.width
    return compressor_parameters(dts) + decoder + masking


def part_parameters(shape: ModelShape) -> dict[str, int]:
    """Count the parameters of each part of Video-XL-Pro."""
    width, text_width = shape.vision.width, shape.text_width
    return {
        "tower": tower_parameters(shape.vision),
        "dts": 0 if shape.dts is None else compressor_parameters(shape.dts),
        "projector": (width + 1) * text_width + (text_width + 1) * text_width,
        "selector": 2 * (text_width + 1) * text_width,
        "language_model": text_parameters(shape.text_config),
    }


def text_parameters(text: Any) -> int:
    """Count the language model's parameters: matrices, biases, norms, embedding and head.

    Args:
        text: of the build of Qwen2, whose queries, keys and values have biases, or of Qwen3, which
            has norms of queries and keys instead.
    """
    heads, keys = text.num_attention_heads, text.num_key_value_heads
    if text.model_type == "qwen2":
        extra = (heads + 2 * keys) * head_width(text)
    else:
        extra = 2 * head_width(text)
    layer = sum(rows * columns for rows, columns in layer_matrices(text).values())
    layer += extra + 2 * text.hidden_size
    embeddings = 1 if text.tie_word_embeddings else 2
    words = embeddings * text.vocab_size * text.hidden_size
    return int(text.num_hidden_layers * layer + text.hidden_size + words)


def head_width(text: Any) -> int:
    """Return the channels of an attention head."""
    own = getattr(text, "head_dim", None)
    return int(own or text.hidden_size // text.num_attention_heads)


def layer_matrices(text: Any) -> dict[str, tuple[int, int]]:
    """Return the matrices of a layer of the language model: name -> channels in, channels out."""
    width, mlp = text.hidden_size, text.intermediate_size
    queries = text.num_attention_heads * head_width(text)
    keys = text.num_key_value_heads * head_width(text)
    return {
        "self_attn.q_proj": (width, queries),
        "self_attn.k_proj": (width, keys),
        "self_attn.v_proj": (width, keys),
        "self_attn.o_proj": (queries, width),
        "mlp.gate_proj": (width, mlp),
        "mlp.up_proj": (width, mlp),
        "mlp.down_proj": (mlp, width),
    }


def _stage_parameters(dts: DTSConfig) -> int:
    """Count two attentions and a convolution."""
    width = dts.width
    tables = 2 * (2 * MAX_DISTANCE + 1) * (width // dts.num_heads)
    attentions = 2 * (4 * width**2 + 6 * width) + tables
    return attentions + KERNEL**3 * width**2 + width
