"""The SigLIP vision tower up to one of its inner layers.

Shape suffixes: F frames, H W pixels, N patches of a frame (row by row), C channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vxp_model.errors import require


class SiglipVisionTower(nn.Module):
    """Run SigLIP's patch embedding and its first layers, chunk by chunk.

    The features are the residual stream after the last of the given layers, before any final norm:
    `hidden_states[len(layers)]` of the full model in transformers. Later layers and the pooling
    head are not part of it.

    Frozen as built. With parameters that require a gradient, every chunk is checkpointed: the
    backward pass runs it anew, so that the activations of one chunk are held, not of all.
    """

    def __init__(
        self, *, embeddings: nn.Module, layers: Iterable[nn.Module], chunk_frames: int = 32
    ) -> None:
        """Hold the parts of a SigLIP model.

        Args:
            embeddings: pixels_FCHW to tokens_FNC.
            layers: each takes (tokens_FNC, attention mask or None) and gives tokens_FNC.
            chunk_frames: frames run at once; bounds memory, changes at most the last bits.
        """
        super().__init__()
        require(chunk_frames >= 1, f"chunk_frames must be 1 or more, got {chunk_frames}.")
        self.embeddings = embeddings
        self.layers = nn.ModuleList(layers)
        self.chunk_frames = chunk_frames
        self.requires_grad_(False)

    def forward(self, pixels_FCHW: Tensor) -> Tensor:
        """Return the features of images.

        Args:
            pixels_FCHW: real [F, 3, image_px, image_px] in [-1, 1], as `normalise_frames` gives;
                F of 1 or more. Cast to the tower's dtype.

        Returns:
            features_FNC: in the tower's dtype; without a graph while the tower is frozen.
        """
        trains = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        parts: list[Tensor] = []
        for chunk_FCHW in torch.split(pixels_FCHW, self.chunk_frames):
            if trains:
                parts.append(checkpoint(self._run, chunk_FCHW, use_reentrant=False))
            else:
                with torch.no_grad():
                    parts.append(self._run(chunk_FCHW))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _run(self, pixels_FCHW: Tensor) -> Tensor:
        tokens_FNC: Tensor = self.embeddings(pixels_FCHW)
        for layer in self.layers:
            tokens_FNC = layer(tokens_FNC, None)
        return tokens_FNC


def normalise_frames(frames_FHWC: Tensor) -> Tensor:
    """Convert decoded images to SigLIP's input.

    Args:
        frames_FHWC: uint8 RGB [F, H, W, 3].

    Returns:
        pixels_FCHW: float32 in [-1, 1]: mean and standard deviation of SigLIP are 0.5.

    Raises:
        ValueError: another dtype or number of channels.
    """
    if frames_FHWC.dtype != torch.uint8 or frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3:
        raise ValueError(
            f"frames must be uint8 [F, H, W, 3], got {frames_FHWC.dtype} {list(frames_FHWC.shape)}"
        )
    return frames_FHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
