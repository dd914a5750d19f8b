"""A vision model of transformers as a tower: pixels to one vector."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Pooled(nn.Module):
    """A model's pooled output, or the mean of its last tokens where it pools none.

    Args:
        model: a vision model of transformers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Embed images.

        Args:
            pixels_BCHW: normalised, of the model's size.

        Returns:
            emb_BD: not of unit norm.
        """
        output: Any = self.model(pixel_values=pixels_BCHW)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        tokens_BXX: Tensor = output.last_hidden_state
        if tokens_BXX.ndim == 4:  # a map [B, C, H, W]
            return tokens_BXX.mean((2, 3))
        return tokens_BXX.mean(1)
