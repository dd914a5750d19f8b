"""SigLIP's image tower in plain torch: the numbers of open_clip's, bit for bit, on CPU.

open_clip builds it of timm's ViT and attention pooling. Importing the two takes twice the time of
importing torch, which every process that embeds would pay. Names of parameters are theirs, so that
the same files fit; the order of operations is theirs, so that the same bits come out.

Shape suffixes: B images, H W pixels, N tokens, C channels, D length of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTShape:
    """What tells one of timm's ViTs from another, as far as SigLIP's differ."""

    image_px: int
    """Side of the square image that the positions are made for."""
    patch_px: int
    """Side of a patch; what is left over at the right and bottom edge is not seen."""
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    gelu: str = "none"
    """The approximation that the MLPs' GELU takes: 'none' or 'tanh'."""
    class_token: bool = False
    """One more token in front, which the pooling leaves out; images may then have any size that
    is a multiple of the patch, for which the positions are stretched."""

    @property
    def grid(self) -> int:
        """Patches along a side of the image that the positions are made for."""
        return self.image_px // self.patch_px


_BASE: Final[dict[str, Any]] = {"width": 768, "depth": 12, "heads": 12}
_LARGE: Final[dict[str, Any]] = {"width": 1024, "depth": 24, "heads": 16}
_SO400M: Final[dict[str, Any]] = {"width": 1152, "depth": 27, "heads": 16, "mlp_ratio": 3.7362}
_GIANT: Final[dict[str, Any]] = {"width": 1536, "depth": 40, "heads": 16, "gelu": "tanh"}

SHAPES: Final[Mapping[str, ViTShape]] = {
    "vit_base_patch16_siglip_224": ViTShape(image_px=224, patch_px=16, **_BASE),
    "vit_base_patch16_siglip_256": ViTShape(image_px=256, patch_px=16, **_BASE),
    "vit_base_patch16_siglip_384": ViTShape(image_px=384, patch_px=16, **_BASE),
    "vit_base_patch16_siglip_512": ViTShape(image_px=512, patch_px=16, **_BASE),
    "vit_base_patch32_siglip_256": ViTShape(image_px=256, patch_px=32, gelu="tanh", **_BASE),
    "vit_large_patch16_siglip_256": ViTShape(image_px=256, patch_px=16, **_LARGE),
    "vit_large_patch16_siglip_384": ViTShape(image_px=384, patch_px=16, **_LARGE),
    "vit_large_patch16_siglip_512": ViTShape(image_px=512, patch_px=16, gelu="tanh", **_LARGE),
    "vit_so400m_patch14_siglip_224": ViTShape(image_px=224, patch_px=14, **_SO400M),
    "vit_so400m_patch14_siglip_378": ViTShape(image_px=378, patch_px=14, **_SO400M),
    "vit_so400m_patch14_siglip_384": ViTShape(image_px=384, patch_px=14, **_SO400M),
    "vit_so400m_patch16_siglip_256": ViTShape(image_px=256, patch_px=16, gelu="tanh", **_SO400M),
    "vit_so400m_patch16_siglip_384": ViTShape(image_px=384, patch_px=16, gelu="tanh", **_SO400M),
    "vit_so400m_patch16_siglip_512": ViTShape(image_px=512, patch_px=16, gelu="tanh", **_SO400M),
    "vit_giantopt_patch16_siglip_256": ViTShape(image_px=256, patch_px=16, **_GIANT),
    "vit_giantopt_patch16_siglip_384": ViTShape(image_px=384, patch_px=16, **_GIANT),
    # timm's smallest, for models of a few words and trials without weights
    "test_vit": ViTShape(
        image_px=160, patch_px=16, width=64, depth=6, heads=2, mlp_ratio=3.0, class_token=True
    ),
}
"""timm's name -> shape, of every image tower of open_clip's SigLIPs."""

_POOLED: Final = {"timm_pool": "map", "timm_proj": "none"}
_NO_MATTER: Final = {"image_size", "timm_model_name", "timm_model_pretrained"}


def shape_of(vision_cfg: Mapping[str, Any]) -> ViTShape | None:
    """Return the shape that open_clip's settings of an image tower mean; None: not one of these."""
    told = {key: value for key, value in vision_cfg.items() if key not in _NO_MATTER}
    return SHAPES.get(vision_cfg["timm_model_name"]) if told == _POOLED else None


class SiglipTower(nn.Module):
    """Images to embeddings; its one part is called as in open_clip's files."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.trunk = _Trunk(shape)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Embed images.

        Args:
            pixels_BCHW: float32 [B, 3, H, W], normalised; H and W are the shape's image_px, or
                multiples of its patch_px where it has a class token.

        Returns:
            emb_BD: [B, width], not of unit norm.
        """
        emb_BD: Tensor = self.trunk(pixels_BCHW)
        return emb_BD


class _Trunk(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.shape = shape
        self.num_prefix = int(shape.class_token)
        self.patch_embed = _PatchEmbed(shape)
        if shape.class_token:
            self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
        num_tokens = shape.grid**2 + self.num_prefix
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, shape.width))
        self.blocks = nn.Sequential(*[_Block(shape) for _ in range(shape.depth)])
        self.norm = nn.LayerNorm(shape.width, eps=NORM_EPS)
        self.attn_pool = _AttentionPool(shape)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        tokens_BNC: Tensor = self.patch_embed(pixels_BCHW)
        num_rows = pixels_BCHW.shape[-2] // self.shape.patch_px
        num_columns = pixels_BCHW.shape[-1] // self.shape.patch_px
        if self.num_prefix:
            first_B1C = self.cls_token.expand(len(tokens_BNC), -1, -1)
            tokens_BNC = torch.cat([first_B1C, tokens_BNC], dim=1)
        tokens_BNC = tokens_BNC + self._positions(num_rows, num_columns)
        tokens_BNC = self.norm(self.blocks(tokens_BNC))
        emb_BD: Tensor = self.attn_pool(tokens_BNC[:, self.num_prefix :])
        return emb_BD

    def _positions(self, num_rows: int, num_columns: int) -> Tensor:
        """Return the positions [1, N, C] of a grid; another grid than their own stretches them."""
        grid = self.shape.grid
        if (num_rows, num_columns) == (grid, grid):
            return self.pos_embed
        prefix_1NC = self.pos_embed[:, : self.num_prefix]
        own_1NC = self.pos_embed[:, self.num_prefix :].float()
        own_1CHW = own_1NC.reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        new_1CHW = functional.interpolate(
            own_1CHW, size=(num_rows, num_columns), mode="bicubic", antialias=True
        )
        new_1NC = new_1CHW.permute(0, 2, 3, 1).reshape(1, -1, self.shape.width)
        return torch.cat([prefix_1NC, new_1NC.to(prefix_1NC.dtype)], dim=1)


class _PatchEmbed(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, kernel_size=shape.patch_px, stride=shape.patch_px)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        tokens_BNC: Tensor = self.proj(pixels_BCHW).flatten(2).transpose(1, 2)
        return tokens_BNC


class _Block(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=NORM_EPS)
        self.attn = _Attention(shape)
        self.norm2 = nn.LayerNorm(shape.width, eps=NORM_EPS)
        self.mlp = _Mlp(shape)

    def forward(self, x_BNC: Tensor) -> Tensor:
        x_BNC = x_BNC + self.attn(self.norm1(x_BNC))
        result_BNC: Tensor = x_BNC + self.mlp(self.norm2(x_BNC))
        return result_BNC


class _Attention(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        num_images, num_tokens, width = x_BNC.shape
        parts = self.qkv(x_BNC).reshape(num_images, num_tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, N, C / heads]
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result_BNC: Tensor = self.proj(mixed.transpose(1, 2).reshape(x_BNC.shape))
        return result_BNC


class _Mlp(nn.Module):
    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        hidden = int(shape.width * shape.mlp_ratio)
        self.fc1 = nn.Linear(shape.width, hidden)
        self.act = nn.GELU(shape.gelu)
        self.fc2 = nn.Linear(hidden, shape.width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        result_BNC: Tensor = self.fc2(self.act(self.fc1(x_BNC)))
        return result_BNC


class _AttentionPool(nn.Module):
    """One learned query attends to all tokens; an MLP behind it."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.latent = nn.Parameter(torch.empty(1, 1, shape.width))
        self.q = nn.Linear(shape.width, shape.width)
        self.kv = nn.Linear(shape.width, 2 * shape.width)
        self.proj = nn.Linear(shape.width, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=NORM_EPS)
        self.mlp = _Mlp(shape)

    def forward(self, x_BNC: Tensor) -> Tensor:
        num_images, num_tokens, width = x_BNC.shape
        head_width = width // self.heads
        query = self.q(self.latent.expand(num_images, -1, -1))
        query = query.reshape(num_images, 1, self.heads, head_width).transpose(1, 2)
        parts = self.kv(x_BNC).reshape(num_images, num_tokens, 2, self.heads, head_width)
        key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        pooled_B1C = self.proj(mixed.transpose(1, 2).reshape(num_images, 1, width))
        pooled_B1C = pooled_B1C + self.mlp(self.norm(pooled_B1C))
        emb_BD: Tensor = pooled_B1C[:, 0]
        return emb_BD
