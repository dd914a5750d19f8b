"""Frames to what is rebuilt: the frozen tower's tokens on the token grid, computed or cached."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.models.siglip import load_tower, random_tower
from vxp_model.modules.grid import GridResampler
from vxp_model.modules.siglip import SiglipVisionTower, normalise_frames
from vxp_model.settings.recot import TowerSettings
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.recot.feature_cache import FeatureCache


class FeatureSource:
    """The tower, and before it the cache.

    Attributes:
        tower: computes what the cache does not have.
        cache: None where the settings name no folder.
        digest: SHA-256 of the weights, their precision and the token grid.
    """

    def __init__(
        self,
        tower: SiglipVisionTower,
        config: ReCoTConfig,
        settings: TowerSettings,
        context: DistributedContext,
    ) -> None:
        self.tower = tower.to(context.device)
        self._resampler = GridResampler(config.grid)
        self._shape = (config.vision.width, config.grid, config.grid)
        self._device = context.device
        self.digest = tower_digest(tower, grid=config.grid)
        self.cache: FeatureCache | None = None
        if settings.cache_dir is not None:
            self.cache = FeatureCache(
                Path(settings.cache_dir).expanduser(),
                digest=self.digest,
                max_bytes=round(settings.cache_gib * 2**30),
                share=context.size,
            )

    @torch.no_grad()
    def __call__(self, frames_FHWC: Tensor) -> Tensor:
        """Return features.

        Args:
            frames_FHWC: uint8 RGB [F, image_px, image_px, 3], on the CPU.

        Returns:
            features_FCHW: in the tower's dtype, on the device.
        """
        if self.cache is None:
            return self._compute(frames_FHWC)
        keys = self.cache.keys(frames_FHWC)
        found = self.cache.get(keys, self._shape)
        missing = [index for index, features in enumerate(found) if features is None]
        if missing:
            new_MCHW = self._compute(frames_FHWC[missing])
            for index, features in zip(missing, new_MCHW.cpu(), strict=True):
                self.cache.put(keys[index], features)
                found[index] = features
        known = [features for features in found if features is not None]
        return torch.stack(known).to(self._device)

    def _compute(self, frames_FHWC: Tensor) -> Tensor:
        pixels_FCHW = normalise_frames(frames_FHWC.to(self._device, non_blocking=True))
        features_FCHW: Tensor = self._resampler(self.tower(pixels_FCHW))
        return features_FCHW


def build_tower(
    config: ReCoTConfig, settings: TowerSettings, *, seed: int, dtype: torch.dtype
) -> SiglipVisionTower:
    """Load the tower's weights, or draw them where the recipe says so.

    Raises:
        UserError: the weights are not there, or do not fit.
    """
    if settings.init == "random":
        return random_tower(
            config.vision, seed=seed, dtype=dtype, chunk_frames=settings.chunk_frames
        )
    return load_tower(
        config.vision,
        source=settings.source,
        revision=settings.revision,
        dtype=dtype,
        chunk_frames=settings.chunk_frames,
    )


def tower_digest(tower: SiglipVisionTower, *, grid: int) -> str:
    """Name a tower by what it computes: 64 hex digits."""
    digest = hashlib.sha256(f"grid {grid}".encode())
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).flatten().numpy())
    return digest.hexdigest()
