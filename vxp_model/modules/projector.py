"""From compressed tokens to the language model's width.

Shape suffixes: G groups, N tokens of a group, C channels of the tower, D of the language model.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class MlpProjector(nn.Module):
    """Linear, GELU, Linear: x_GNC to y_GND. 6,557,696 parameters for 1152 to 2048.

    Source: `mlp2x_gelu` of LLaVA.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, out_width)
        self.out = nn.Linear(out_width, out_width)

    def forward(self, x_GNC: Tensor) -> Tensor:
        """Project."""
        y_GND: Tensor = self.out(functional.gelu(self.up(x_GNC)))
        return y_GND


class SpatialPool2d(nn.Module):
    """Average square blocks of tokens: [G, N, C] to [G, N / stride^2, C]. No parameters.

    With stride 2, 576 tokens of a group become 144, that is 36 for each of its four frames.
    """

    def __init__(self, stride: int) -> None:
        """Set the pool's stride, 1 (all tokens stay) or 2."""
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"the pool's stride must be 1 or 2, got {stride}")
        self.stride = stride

    def forward(self, x_GNC: Tensor) -> Tensor:
        """Pool.

        Raises:
            ValueError: the tokens are no square grid whose side the stride divides.
        """
        side = round(x_GNC.shape[1] ** 0.5)
        if side * side != x_GNC.shape[1] or side % self.stride:
            raise ValueError(f"cannot pool {x_GNC.shape[1]} tokens by {self.stride}")
        x_GCHW = x_GNC.reshape(-1, side, side, x_GNC.shape[-1]).permute(0, 3, 1, 2)
        return functional.avg_pool2d(x_GCHW, self.stride).flatten(2).transpose(1, 2)
