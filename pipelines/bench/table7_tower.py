"""The frozen towers that table7.py can train behind: random weights, or EfficientNet-Lite0.

Shape suffixes: N rows, T frames, F frames of many rows, H W pixels or grid, C channels of the
network, D of them left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

import torch
from table7_train import AT_ONCE, Answerer, Examples
from torch import Tensor
from torch.nn import functional

from vxp_data.encoders.efficientnet_lite0 import find_weights
from vxp_data.encoders.lite0_layers import FRAME_PX, MINUS, OVER, read_folded
from vxp_data.encoders.lite0_tower import Lite0Tower
from vxp_data.settings.prune import EncoderConfig
from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

RANDOM: Final = "random"
LITE0: Final = "efficientnet_lite0"
TOWERS: Final = (RANDOM, LITE0)
BLOCKS: Final = 8
"""Of the 16 that are run: to the fourth stage, whose map is 14 x 14 with 80 channels."""


class Tower(Protocol):
    """Makes the features that are trained on, once for each clip."""

    def fit(self, pool: Examples) -> None:
        """Take what depends on the pool from it; answers are not looked at."""

    def features(self, rows: Examples) -> Examples:
        """Put features, float32 [N, T, D, H, W], in the place of frames."""


class RandomTower:
    """The tiny preset's own tower, as drawn by the seed."""

    def __init__(self, *, num_frames: int, seed: int) -> None:
        self._answerer = Answerer(num_frames=num_frames, seed=seed)

    def fit(self, pool: Examples) -> None:
        """Take nothing."""

    def features(self, rows: Examples) -> Examples:
        """Run the tower; see `Tower.features`."""
        return self._answerer.features(rows)


class TrainedTower:
    """EfficientNet-Lite0's first blocks, on the tiny preset's grid, in its width.

    A frame is enlarged, to the network's 224 px unless told otherwise; the map is averaged to the
    preset's grid; of its channels the principal components over a pool are left, see `Components`.

    Args:
        blocks: how many are run, see BLOCKS.
        side_px: that a frame is enlarged to.
    """

    def __init__(self, blocks: int = BLOCKS, side_px: int = FRAME_PX) -> None:
        self._side_px = side_px
        config = video_xl_pro_preset("tiny")
        self._grid, self._width = config.grid, config.vision.width
        given = EncoderConfig(name=LITE0, device="cpu")
        tower = Lite0Tower(read_folded(find_weights(given))).eval().requires_grad_(False)
        self._layers = torch.nn.Sequential(tower.stem, tower.blocks[:blocks])
        self._maps: dict[tuple[str, ...], Tensor] = {}
        self._components: Components | None = None

    def fit(self, pool: Examples) -> None:
        """Take the mean of the pool's features, and their principal components."""
        self._components = Components(self.grid_maps(pool), width=self._width, turned=True)

    def features(self, rows: Examples) -> Examples:
        """Run the network, and project; see `Tower.features`."""
        if self._components is None:
            raise RuntimeError("fit() comes first")
        return replace(rows, seen_N=self._components.project(self.grid_maps(rows)))

    @torch.inference_mode()
    def grid_maps(self, rows: Examples) -> Tensor:
        """Return the network's map of every frame, on the grid: [N, T, C, H, W]; kept by names."""
        if rows.sample_ids not in self._maps:
            parts = [self._of_frames(part) for part in rows.seen_N.flatten(0, 1).split(AT_ONCE)]
            self._maps[rows.sample_ids] = torch.cat(parts).unflatten(0, rows.seen_N.shape[:2])
        return self._maps[rows.sample_ids]

    def _of_frames(self, frames_FHWC: Tensor) -> Tensor:
        pixels_FCHW = frames_FHWC.permute(0, 3, 1, 2).float()
        size = (self._side_px, self._side_px)
        large_FCHW = functional.interpolate(pixels_FCHW, size, mode="bilinear")
        maps = [self._layers((one - MINUS) / OVER) for one in large_FCHW.split(1)]
        return functional.adaptive_avg_pool2d(torch.cat(maps), self._grid)


class Components:
    """The principal components of the channels of some maps.

    Training brings every channel to spread 1: so components are as large as one another, the last
    as the first, unless they are turned by a fixed rotation, which mixes them.

    Args:
        map_NTCHW: of the rows of a pool.
        width: components that are left, D.
        turned: mix them.
    """

    def __init__(self, map_NTCHW: Tensor, *, width: int, turned: bool) -> None:
        x_MC = map_NTCHW.movedim(2, -1).flatten(0, -2).double()
        self._mean_C = x_MC.mean(0)
        centred_MC = x_MC - self._mean_C
        axes_CC = torch.linalg.eigh(centred_MC.T @ centred_MC).eigenvectors  # the largest last
        self._axes_CD = axes_CC[:, -width:].flip(1)
        if turned:
            drawn = torch.Generator().manual_seed(0)
            drawn_DD = torch.randn(width, width, dtype=torch.double, generator=drawn)
            rotation_DD, _ = torch.linalg.qr(drawn_DD)
            self._axes_CD = axes_CC[:, -width:] @ rotation_DD

    def project(self, map_NTCHW: Tensor) -> Tensor:
        """Return features, float32 [N, T, D, H, W]."""
        x_NTHWC = map_NTCHW.movedim(2, -1).double() - self._mean_C
        return (x_NTHWC @ self._axes_CD).movedim(-1, 2).float()


def tower_of(name: str, *, num_frames: int, seed: int) -> Tower:
    """Return a tower of TOWERS; only the random one goes by the seed."""
    return TrainedTower() if name == LITE0 else RandomTower(num_frames=num_frames, seed=seed)
