"""The compressor's two attentions: over a frame's grid, and over the frames at a grid position.

Both are pre-norm residual blocks without an MLP, and start as the identity: their output
projections are zero. (The released code starts some inputs at zero too: those then stand still in
the first step.)

Shape suffixes: G groups, T frames of a group, N grid positions of a frame, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.modules.shapes import MAX_DISTANCE

NORM_EPS = 1e-6


class SpatialAttention(nn.Module):
    """Every token attends to all N tokens of its own frame. 4 C^2 + 6 C parameters.

    The norm runs over all frames and positions of a group, in `norm_groups` channel groups.

    Source: AttnBlock3D of the released code (one head), with a zero output projection at the start.
    """

    def __init__(self, width: int, *, num_heads: int, norm_groups: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(norm_groups, width, eps=NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_GTNC: Tensor) -> Tensor:
        """Attend; the shape stays."""
        num_groups, num_frames, num_tokens, width = x_GTNC.shape
        # GroupNorm wants the channels second.
        normed_GTNC = self.norm(x_GTNC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        qkv = self.qkv(normed_GTNC).view(
            num_groups * num_frames, num_tokens, 3, self.num_heads, width // self.num_heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [GT, heads, N, C / heads]
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed_GTNC = mixed.transpose(1, 2).reshape(x_GTNC.shape)
        result: Tensor = x_GTNC + self.out(mixed_GTNC)
        return result


class TemporalAttention(nn.Module):
    """Every token attends to the T tokens at its position, in both directions of time.

    Learned tables, by distance in frames, are added to keys and values. The norm runs over the
    frames of each position alone. 4 C^2 + 6 C + 2 * 129 * C / num_heads parameters.

    The weights are T x T with T of 8 or less, and the value table makes each differ by the query's
    frame: no fused kernel does that, and none is needed.

    Source: TemporalAttention of the released code; its key table is added transposed
    (`transpose_key_table`), which only its weights should be read with. As there, the scale of the
    key table's term is the fourth root of the head's width, that of the keys the square root.
    """

    def __init__(
        self, width: int, *, num_heads: int, norm_groups: int, transpose_key_table: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.transpose_key_table = transpose_key_table
        self.norm = nn.GroupNorm(norm_groups, width, eps=NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.key_table = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 1, width // num_heads))
        self.value_table = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 1, width // num_heads))
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.key_table)
        nn.init.xavier_uniform_(self.value_table)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_GTNC: Tensor) -> Tensor:
        """Attend; the shape stays."""
        num_groups, num_frames, num_tokens, width = x_GTNC.shape
        by_index = x_GTNC.permute(0, 2, 3, 1).reshape(-1, width, num_frames)
        normed = self.norm(by_index).transpose(1, 2)
        qkv = self.qkv(normed).view(-1, num_frames, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [GN, heads, T, C / heads]
        mixed = self._attend(query, key, value)
        mixed = self.out(mixed.transpose(1, 2).reshape(-1, num_frames, width))
        mixed_GTNC = mixed.view(num_groups, num_tokens, num_frames, width).transpose(1, 2)
        result: Tensor = x_GTNC + mixed_GTNC
        return result

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        num_frames, head_width = query.shape[-2:]
        frame_T = torch.arange(num_frames, device=query.device)
        row_TS = (frame_T[None, :] - frame_T[:, None]) + MAX_DISTANCE  # key minus query
        # The fourth root on both sides gives the square root in the product, without a large number
        # on the way in bf16.
        scaled = query * head_width**-0.25
        logits = scaled @ (key * head_width**-0.25).transpose(-1, -2)
        bias = torch.einsum("bhtd,tsd->bhts", scaled, self.key_table[row_TS])
        logits = logits + (bias.transpose(-1, -2) if self.transpose_key_table else bias)
        # In float32: few weights of bf16 sum to exactly 1.
        weights = logits.float().softmax(-1).to(value.dtype)
        ordered = torch.einsum("bhts,tsd->bhtd", weights, self.value_table[row_TS])
        mixed: Tensor = weights @ value + ordered
        return mixed
