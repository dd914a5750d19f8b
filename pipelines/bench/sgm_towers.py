"""The frozen towers before sgm.py's compressors: random weights, and EfficientNet-Lite0.

Shape suffixes: N clips, T frames, F frames of many clips, H W pixels or grid, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from sgm_clips import GRID, SIDE_PX, Clip, Scene, draw_clips
from sgm_outcomes import Held
from table7_tower import LITE0, RANDOM, Components
from torch import Tensor

from vxp_data.encoders.efficientnet_lite0 import find_weights
from vxp_data.encoders.lite0_layers import FRAME_PX, MINUS, OVER, read_folded
from vxp_data.encoders.lite0_tower import Lite0Tower
from vxp_data.settings.prune import EncoderConfig
from vxp_model.models.presets import recot_preset
from vxp_model.models.siglip import random_tower
from vxp_model.modules.siglip import normalise_frames

TowerName = Literal["random", "efficientnet_lite0"]
LITE0_BLOCKS: Final = 11
"""Of the 16 that are run: to the fifth stage, whose map is 14 x 14 with 112 channels."""
LITE0_GRID: Final = 14
WIDTH: Final = 32
"""Principal components of these channels that are left: the tiny preset's width."""
PARTS: Final = {"train": 0, "held": 1}
"""Parts of the clips, and the seeds that they are drawn with."""
COUNTS: Final = {
    RANDOM: {"train": 240, "held": 1500, "probe": 500, "rebuilt": 200},
    LITE0: {"train": 160, "held": 320, "probe": 160, "rebuilt": 40},
}
"""Clips by tower: to train on, held back, and of these for probes to learn from and to rebuild."""
BATCHES: Final = {RANDOM: 8, LITE0: 2}
"""Clips of a step."""


def drawn(tower: TowerName, scene: Scene, part: str) -> list[Clip]:
    """Draw the clips of a part, as large as the tower's frames."""
    lite = tower == LITE0
    return draw_clips(
        COUNTS[tower][part],
        seed=PARTS[part],
        scene=scene,
        scale=FRAME_PX // SIDE_PX if lite else 1,
        grid=LITE0_GRID if lite else GRID,
    )


def prepared(tower: TowerName, scene: Scene, seed: int) -> tuple[list[Clip], Tensor, Held]:
    """Return the clips that are trained on, their features, and what is held back.

    Args:
        tower: which.
        scene: of the clips.
        seed: of the random tower's weights; the trained one knows none.
    """
    clips = {part: drawn(tower, scene, part) for part in PARTS}
    if tower == LITE0:
        maps = {part: lite0_maps(own) for part, own in clips.items()}
        components = Components(maps["train"], width=WIDTH, turned=True)
        features = {part: components.project(own) for part, own in maps.items()}
        scale = features["train"].std()
        features = {part: own / scale for part, own in features.items()}
    else:
        features = {part: random_maps(own, seed) for part, own in clips.items()}
    counts = COUNTS[tower]
    held = Held(
        clips=clips["held"],
        features_NTCHW=features["held"],
        num_probe=counts["probe"],
        num_rebuilt=counts["rebuilt"],
    )
    return clips["train"], features["train"], held


@torch.no_grad()
def random_maps(clips: Sequence[Clip], seed: int) -> Tensor:
    """Run the tiny preset's tower, of random weights, over clips: [N, T, C, H, W]."""
    tower = random_tower(recot_preset("tiny").vision, seed=seed)
    parts = []
    for clip in clips:
        tokens_TKC = tower(normalise_frames(torch.from_numpy(clip.frames_THWC)))
        parts.append(tokens_TKC.transpose(1, 2).unflatten(2, (GRID, GRID)))
    return torch.stack(parts)


@torch.no_grad()
def lite0_maps(clips: Sequence[Clip]) -> Tensor:
    """Run EfficientNet-Lite0 over clips, to its last map of stride 16: [N, T, C, H, W]."""
    given = EncoderConfig(name=LITE0, device="cpu")
    tower = Lite0Tower(read_folded(find_weights(given))).eval().requires_grad_(False)
    layers = torch.nn.Sequential(tower.stem, tower.blocks[:LITE0_BLOCKS])
    parts = []
    for clip in clips:
        pixels_TCHW = torch.from_numpy(clip.frames_THWC).permute(0, 3, 1, 2).float()
        parts.append(layers((pixels_TCHW - MINUS) / OVER).half())
    return torch.stack(parts).float()
