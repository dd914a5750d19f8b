"""Dynamic Token Synthesizer: the tokens of a few frames become those of one.

Shape suffixes: G groups, T frames of a group, H W grid, N = H W grid positions, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vxp_model.modules.attention import SpatialAttention, TemporalAttention
from vxp_model.modules.conv import FrontPaddedConv3d
from vxp_model.modules.shapes import STRIDES, DTSConfig


class DTSStage(nn.Module):
    """Attention over the grid, attention over time, then a convolution that merges frames."""

    def __init__(self, config: DTSConfig, *, stride: int) -> None:
        super().__init__()
        self.spatial = SpatialAttention(
            config.width, num_heads=config.num_heads, norm_groups=config.norm_groups
        )
        self.temporal = TemporalAttention(
            config.width,
            num_heads=config.num_heads,
            norm_groups=config.norm_groups,
            transpose_key_table=config.legacy_relpos_transpose,
        )
        self.conv = FrontPaddedConv3d(config.width, stride=stride)

    def forward(self, x_GTHWC: Tensor) -> Tensor:
        """Mix, then merge: T frames to T / stride."""
        x_GTNC: Tensor = self.temporal(self.spatial(x_GTHWC.flatten(2, 3)))
        merged_GTHWC: Tensor = self.conv(x_GTNC.reshape(x_GTHWC.shape))
        return merged_GTHWC


class DynamicTokenSynthesizer(nn.Module):
    """Two stages that compress `temporal_factor` frames into one frame's worth of tokens.

    Groups never see one another. There is no MLP and no activation: what is not linear is the norms
    and the softmax. 93,526,272 parameters at C = 1152 and factor 4.

    `checkpoint_stages` trades time for memory in training: each stage runs again in the backward
    pass.

    Source: SiglipAE of the released code, as documented in the paper, section 3.2. Ours takes the
    frames in their order; the released code mixes them with the channels (`legacy_frame_layout`).
    """

    def __init__(self, config: DTSConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_stages = False
        self.time_code = nn.Parameter(torch.randn(config.temporal_factor, config.width))
        self.stages = nn.ModuleList(
            DTSStage(config, stride=stride) for stride in STRIDES[config.temporal_factor]
        )

    def forward(self, x_GCTHW: Tensor) -> Tensor:
        """Compress.

        Args:
            x_GCTHW: T = temporal_factor frames a group; fastest where the channels lie together in
                memory (channels_last_3d).

        Returns:
            y_GCTHW: T = 1; channels_last_3d.

        Raises:
            ValueError: another number of frames or channels.
        """
        wanted = (self.config.width, self.config.temporal_factor)
        if x_GCTHW.ndim != 5 or tuple(x_GCTHW.shape[1:3]) != wanted:
            raise ValueError(
                f"wanted [G, {wanted[0]}, {wanted[1]}, H, W], got {list(x_GCTHW.shape)}: "
                "pad short groups with their last frame"
            )
        if self.config.legacy_frame_layout:
            # No way back to [C, T]: the memory of [T, C] is read as if it were that.
            x_GCTHW = x_GCTHW.transpose(1, 2).reshape(x_GCTHW.shape)
        # Channels last, as both attentions take them; of a channels_last_3d input it is a view.
        x_GTHWC = x_GCTHW.permute(0, 2, 3, 4, 1) + self.time_code[:, None, None, :]
        for stage in self.stages:
            if self.checkpoint_stages and self.training and torch.is_grad_enabled():
                x_GTHWC = checkpoint(stage, x_GTHWC, use_reentrant=False)
            else:
                x_GTHWC = stage(x_GTHWC)
        return x_GTHWC.permute(0, 4, 1, 2, 3)
