"""The decoder that rebuilds the frames' tokens from the compressed ones, in training only.

Shape suffixes: G groups, T frames of a group, H W grid, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vxp_model.modules.attention import SpatialAttention, TemporalAttention
from vxp_model.modules.conv import FrontPaddedConv3d
from vxp_model.modules.shapes import DTSConfig


class ReconstructionDecoder(nn.Module):
    """One stage against the encoder's two: repeat over time, time code, convolution, attentions.

    46,765,440 parameters at C = 1152 and factor 4, half of the compressor's.

    Source: the paper, section 3.2, says no more than that the decoder has half of the encoder's
    parameters; half of its stages gives exactly that.
    """

    def __init__(self, config: DTSConfig) -> None:
        super().__init__()
        self.checkpoint_stages = False
        self.time_code = nn.Parameter(torch.randn(config.temporal_factor, config.width))
        self.conv = FrontPaddedConv3d(config.width, stride=1)
        self.spatial = SpatialAttention(
            config.width, num_heads=config.num_heads, norm_groups=config.norm_groups
        )
        self.temporal = TemporalAttention(
            config.width, num_heads=config.num_heads, norm_groups=config.norm_groups
        )

    def forward(self, y_GCTHW: Tensor) -> Tensor:
        """Rebuild.

        Args:
            y_GCTHW: the compressor's output, T = 1.

        Returns:
            x_GCTHW: T = temporal_factor; channels_last_3d.
        """
        y_GTHWC = y_GCTHW.permute(0, 2, 3, 4, 1)
        if self.checkpoint_stages and self.training and torch.is_grad_enabled():
            x_GTHWC: Tensor = checkpoint(self._decode, y_GTHWC, use_reentrant=False)
        else:
            x_GTHWC = self._decode(y_GTHWC)
        return x_GTHWC.permute(0, 4, 1, 2, 3)

    def _decode(self, y_GTHWC: Tensor) -> Tensor:
        x_GTHWC: Tensor = self.conv(y_GTHWC + self.time_code[:, None, None, :])
        x_GTNC: Tensor = self.temporal(self.spatial(x_GTHWC.flatten(2, 3)))
        return x_GTNC.reshape(x_GTHWC.shape)
