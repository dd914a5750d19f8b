"""EfficientNet-Lite0 in plain torch, for GPUs, bf16, and where onnxruntime is not installed.

Importing timm, which has it too, takes twice the time of importing torch.

Shape suffixes: B images, C channels, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_data.encoders.lite0_layers import HEAD, STEM, Conv, Folded, adds, blocks


class Lite0Tower(nn.Module):
    """Images to pooled features.

    Args:
        folded: the weights.
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__()
        self.stem = _Conv(STEM, folded)
        self.blocks = nn.Sequential(*[_Block(block, folded) for block in blocks()])
        self.head = _Conv(HEAD, folded)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Embed images.

        Args:
            pixels_BCHW: float32 [B, 3, 224, 224], `(x - 127) / 128` of 0..255.

        Returns:
            features_BC: [B, 1280], means over the last feature map, 0 or more; not of unit norm.
        """
        x_BCHW = self.head(self.blocks(self.stem(pixels_BCHW)))
        features_BC: Tensor = x_BCHW.mean((2, 3))
        return features_BC


class _Block(nn.Module):
    def __init__(self, block: tuple[Conv, ...], folded: Folded) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[_Conv(conv, folded) for conv in block])
        self.adds = adds(block)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        result_BCHW: Tensor = self.convs(x_BCHW)
        return result_BCHW + x_BCHW if self.adds else result_BCHW


class _Conv(nn.Module):
    """A convolution, channels last, and what cuts it to 0..6."""

    def __init__(self, conv: Conv, folded: Folded) -> None:
        super().__init__()
        weight, bias = map(torch.from_numpy, folded[conv.conv])
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(bias)
        self.conv = conv

    def forward(self, x_BCHW: Tensor) -> Tensor:
        conv = self.conv
        before, after = conv.padding
        if before != after:
            x_BCHW = functional.pad(x_BCHW, (before, after) * 2)
        even = before if before == after else 0
        y_BCHW = functional.conv2d(
            x_BCHW, self.weight, self.bias, conv.stride, even, groups=conv.groups
        )
        return functional.relu6(y_BCHW) if conv.relu6 else y_BCHW
