"""The parts of SigLIP's vision tower, with transformers' names and bits, without transformers.

Importing it takes as long as importing torch, and the tower is all that ReCoT would need of it.

Shape suffixes: F frames, H W pixels, N patches of a frame (row by row), C channels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from vxp_model.modules.shapes import VisionConfig
from vxp_model.modules.siglip import SiglipVisionTower

APPROXIMATIONS: Final = {"gelu_pytorch_tanh": "tanh", "gelu": "none"}
"""transformers' names of activations, and how torch's GELU computes them."""
USUAL_ACTIVATION: Final = "gelu_pytorch_tanh"
USUAL_EPS: Final = 1e-6


def build_tower(
    config: VisionConfig,
    *,
    activation: str = USUAL_ACTIVATION,
    norm_eps: float = USUAL_EPS,
    chunk_frames: int = 32,
) -> SiglipVisionTower:
    """Build the tower with torch's own new weights.

    Args:
        config: its shape.
        activation: a name in APPROXIMATIONS.
        norm_eps: of the norms.
        chunk_frames: see `SiglipVisionTower`.
    """
    return SiglipVisionTower(
        embeddings=SiglipEmbeddings(config),
        layers=[
            SiglipLayer(config, activation=activation, norm_eps=norm_eps)
            for _ in range(config.layer)
        ],
        chunk_frames=chunk_frames,
    )


class SiglipEmbeddings(nn.Module):
    """Patches to tokens, each with its place."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(
            3, config.width, kernel_size=config.patch_px, stride=config.patch_px
        )
        self.position_embedding = nn.Embedding(config.grid**2, config.width)

    def forward(self, pixels_FCHW: Tensor) -> Tensor:
        """Embed; cast to the weights' dtype."""
        patches_FCHW = self.patch_embedding(pixels_FCHW.to(self.patch_embedding.weight.dtype))
        tokens_FNC: Tensor = patches_FCHW.flatten(2).transpose(1, 2)
        return tokens_FNC + self.position_embedding.weight


class SiglipLayer(nn.Module):
    """Attention over a frame's tokens and an MLP, each behind a norm and beside the stream."""

    def __init__(self, config: VisionConfig, *, activation: str, norm_eps: float) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=norm_eps)
        self.self_attn = SiglipAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=norm_eps)
        self.mlp = SiglipMlp(config, activation=activation)

    def forward(self, x_FNC: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Run; the shape stays."""
        x_FNC = x_FNC + self.self_attn(self.layer_norm1(x_FNC), attention_mask)
        result_FNC: Tensor = x_FNC + self.mlp(self.layer_norm2(x_FNC))
        return result_FNC


class SiglipAttention(nn.Module):
    """All tokens of a frame attend to one another."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.q_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x_FNC: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Mix."""
        shape = (*x_FNC.shape[:-1], self.num_heads, x_FNC.shape[-1] // self.num_heads)
        query, key, value = (
            project(x_FNC).view(shape).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        result_FNC: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(x_FNC.shape))
        return result_FNC


class SiglipMlp(nn.Module):
    """Each token alone."""

    def __init__(self, config: VisionConfig, *, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_width)
        self.act = nn.GELU(APPROXIMATIONS[activation])
        self.fc2 = nn.Linear(config.mlp_width, config.width)

    def forward(self, x_FNC: Tensor) -> Tensor:
        """Widen, bend, narrow."""
        result_FNC: Tensor = self.fc2(self.act(self.fc1(x_FNC)))
        return result_FNC


@torch.no_grad()
def draw_weights(tower: SiglipVisionTower, config: VisionConfig) -> None:
    """Draw weights as transformers does, so that a seed goes on giving the tower that it gave.

    There every matrix is drawn by several rules, one after another; the last stays.
    """
    embeddings = tower.embeddings
    assert isinstance(embeddings, SiglipEmbeddings)
    _draw_over(embeddings.patch_embedding)
    positions = embeddings.position_embedding.weight
    for std in (_BASE_STD, config.width**-0.5, config.width**-0.5):
        init.normal_(positions, std=std)
    for layer in tower.layers:
        assert isinstance(layer, SiglipLayer)
        own = layer.self_attn
        for part in (own.k_proj, own.v_proj, own.q_proj, own.out_proj):
            _draw_over(part)
        for part in (own.q_proj, own.k_proj, own.v_proj, own.out_proj):
            init.xavier_uniform_(part.weight)
        pair = (layer.mlp.fc1, layer.mlp.fc2)
        for part in pair:
            _draw_over(part)
        for part in pair:
            init.xavier_uniform_(part.weight)
        for part in pair:
            init.normal_(part.bias, std=1e-6)


_BASE_STD: Final = 0.02
_TRUNCATED_STD: Final = 0.87962566103423978
"""Of a normal distribution cut off at twice its deviation."""


def _draw_over(part: nn.Linear | nn.Conv2d) -> None:
    init.normal_(part.weight, std=_BASE_STD)
    fan_in = part.weight[0].numel()
    init.trunc_normal_(part.weight, std=fan_in**-0.5 / _TRUNCATED_STD)
    assert part.bias is not None
    init.zeros_(part.bias)
