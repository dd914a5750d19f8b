"""The compressor's 3-D convolution.

Shape suffixes: G groups, T frames of a group, H W grid, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.modules.shapes import KERNEL


class FrontPaddedConv3d(nn.Conv3d):
    """3 x 3 x 3 convolution over time and grid, C to C, that repeats the edges.

    With a stride of 2 in time one frame is put in front and none behind: output t sees the inputs
    2t-1, 2t and 2t+1, none later than its own pair. With stride 1 there is one on either side, with
    stride 4 the means of frame pairs are convolved with stride 2 (a kernel of 3 that jumps by 4
    would not see every frame). 27 C^2 + C parameters.

    Computed channels-last. On the CPU, where bf16 convolutions can be very slow, in fp32.

    Source: SamePadConv3d of the released code, for strides 1 and 2.
    """

    def __init__(self, width: int, *, stride: int) -> None:
        """Set up a convolution of C = width channels.

        Args:
            width: channels.
            stride: 1, 2 or 4 frames; the grid is never strided.
        """
        if stride not in (1, 2, 4):
            raise ValueError(f"the stride in time must be 1, 2 or 4, got {stride}")
        super().__init__(width, width, KERNEL, stride=(min(stride, 2), 1, 1))
        self.pairs_first = stride == 4

    def forward(self, x_GTHWC: Tensor) -> Tensor:
        """Convolve.

        Args:
            x_GTHWC: T divisible by the stride.

        Returns:
            y_GTHWC: T / stride frames.
        """
        if self.pairs_first:
            x_GTHWC = (x_GTHWC[:, 0::2] + x_GTHWC[:, 1::2]) / 2
        x_GTHWC = _repeat_edge(x_GTHWC, dim=1, front=1, behind=2 - self.stride[0])
        x_GTHWC = _repeat_edge(x_GTHWC, dim=2, front=1, behind=1)
        x_GTHWC = _repeat_edge(x_GTHWC, dim=3, front=1, behind=1)
        x_GCTHW = x_GTHWC.permute(0, 4, 1, 2, 3)
        if x_GCTHW.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                y_GCTHW = self._convolve(x_GCTHW, torch.float32).to(x_GCTHW.dtype)
        else:
            y_GCTHW = self._convolve(x_GCTHW, self.weight.dtype)
        return y_GCTHW.permute(0, 2, 3, 4, 1)

    def _convolve(self, x_GCTHW: Tensor, dtype: torch.dtype) -> Tensor:
        assert self.bias is not None
        return functional.conv3d(
            x_GCTHW.to(dtype), self.weight.to(dtype), self.bias.to(dtype), stride=self.stride
        )


def _repeat_edge(x: Tensor, *, dim: int, front: int, behind: int) -> Tensor:
    # Not functional.pad: its gradient on CUDA adds up in no fixed order.
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, -1, 1)
    return torch.cat([first] * front + [x] + [last] * behind, dim)
