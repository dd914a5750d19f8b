"""From the tower's patch grid to the token grid of the compressor."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class GridResampler(nn.Module):
    """Resample square feature grids bilinearly, 27 x 27 to 24 x 24 in the paper's model.

    No parameters. Computed in fp32 whatever the input's dtype, sample points at pixel centres
    (`align_corners=False`), as in the released inference code.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, features_FNC: Tensor) -> Tensor:
        """Resample.

        Args:
            features_FNC: [F, N, C], N a square number, row by row.

        Returns:
            features_FCHW: [F, C, grid, grid] in the input's dtype. Channels lie together in memory
                (channels_last), so that seeing it as tokens again costs nothing.

        Raises:
            ValueError: N is not a square.
        """
        num_frames, num_tokens, width = features_FNC.shape
        side = round(num_tokens**0.5)
        if side * side != num_tokens:
            raise ValueError(f"{num_tokens} tokens a frame do not form a square grid")
        features_FCHW = features_FNC.view(num_frames, side, side, width).permute(0, 3, 1, 2)
        if side == self.grid:
            return features_FCHW
        size = (self.grid, self.grid)
        resampled = functional.interpolate(
            features_FCHW.float(), size=size, mode="bilinear", align_corners=False
        )
        return resampled.to(features_FNC.dtype)
