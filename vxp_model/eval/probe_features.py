"""What a probe sees of a media: the tower's tokens, or a compressor's, averaged.

Shape suffixes: B media run at once, T frames of each, F = B T; G groups of frames, N = H W tokens,
C channels, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vxp_data.core.seeds import hash64
from vxp_model.models.recot import ReCoTModel
from vxp_model.modules.frame_groups import FrameGroups
from vxp_model.modules.masking import draw_mask, seeded_noise

OverTime = Literal["mean", "all"]


@dataclass(slots=True)
class Rebuilt:
    """Sums over the tokens that were hidden and rebuilt."""

    tokens: int = 0
    squared: float = 0.0
    cosine: float = 0.0

    @property
    def mse(self) -> float:
        """Mean squared error of a channel of a hidden token."""
        return self.squared / max(self.tokens, 1)

    @property
    def mean_cosine(self) -> float:
        """Mean cosine of a hidden token with what was made of it."""
        return self.cosine / max(self.tokens, 1)


def average(tokens_BTCHW: Tensor, *, cells: int, over_time: OverTime) -> Tensor:
    """Pool a media's tokens to one vector.

    Args:
        tokens_BTCHW: of frames, or of groups of frames.
        cells: averages are taken in so many cells a side, each for itself.
        over_time: average over T as well, or put the frames one after another.

    Returns:
        features_BD: float32; D = C cells^2, times T for 'all'.
    """
    in_cells = functional.adaptive_avg_pool2d(tokens_BTCHW.flatten(0, 1).float(), cells)
    cells_BTD = in_cells.reshape(*tokens_BTCHW.shape[:2], -1)
    return cells_BTD.mean(1) if over_time == "mean" else cells_BTD.flatten(1)


@torch.no_grad()
def compressed(model: ReCoTModel, frames_BTCHW: Tensor, *, is_image: bool) -> Tensor:
    """Run the compressor on whole clips, nothing hidden.

    Args:
        model: in eval mode.
        frames_BTCHW: the tower's features.
        is_image: T is 1, shown at every index of a group.

    Returns:
        tokens_BTCHW: T: groups of a media.
    """
    groups = _groups(model, frames_BTCHW, is_image)
    tokens_GCTHW = groups.gather(frames_BTCHW.flatten(0, 1)).transpose(1, 2)
    compressed_GCTHW: Tensor = model.dts(tokens_GCTHW.to(model.dts.time_code.dtype))
    tokens_GCHW = compressed_GCTHW[:, :, 0]
    return tokens_GCHW.reshape(len(frames_BTCHW), -1, *tokens_GCHW.shape[1:])


@torch.no_grad()
def add_rebuilt(
    sums: Rebuilt,
    model: ReCoTModel,
    frames_BTCHW: Tensor,
    names: Sequence[str],
    *,
    is_image: bool,
    mask_ratio: float,
    seed: int,
) -> None:
    """Hide a fixed share of tokens at random, rebuild, and add up how well.

    The mask follows from the seed, the media's name and the group alone: models of one temporal
    factor are measured under the same mask, however they were trained.

    Args:
        sums: to add to.
        model: in eval mode.
        frames_BTCHW: the tower's features.
        names: of the media.
        is_image: see `compressed`.
        mask_ratio: share of tokens to hide.
        seed: of the masks.
    """
    groups = _groups(model, frames_BTCHW, is_image)
    num_frames, num_tokens = groups.frame_GT.shape[1], model.config.grid**2
    per_media = len(groups.frame_GT) // len(names)
    seeds = [
        hash64("probe mask", seed, name, group) for name in names for group in range(per_media)
    ]
    noise_GTN = seeded_noise(seeds, shape=(num_frames, num_tokens))
    noise_GTN = noise_GTN.gather(1, groups.copy_of_GT.cpu()[..., None].expand_as(noise_GTN))
    mask_GTN = draw_mask(
        torch.zeros_like(noise_GTN),
        noise_GTN,
        num_masked=max(1, round(mask_ratio * num_tokens)),
        num_pool=num_tokens,
    ).to(frames_BTCHW.device)
    output = model(groups=groups, features_FCHW=frames_BTCHW.flatten(0, 1), mask_GTN=mask_GTN)
    features_FNC = frames_BTCHW.flatten(0, 1).flatten(2).transpose(1, 2)
    target_GTNC = model.target(groups.gather(features_FNC))
    cosine_GTN = functional.cosine_similarity(output.reconstruction_GTNC.float(), target_GTNC, -1)
    counts_GTN = mask_GTN & groups.valid_GT[..., None]
    sums.tokens += int(counts_GTN.sum())
    sums.squared += float(output.error_GTN[counts_GTN].double().sum())
    sums.cosine += float(cosine_GTN[counts_GTN].double().sum())


def _groups(model: ReCoTModel, frames_BTCHW: Tensor, is_image: bool) -> FrameGroups:
    num_media, num_frames = frames_BTCHW.shape[:2]
    groups = model.grouper([num_frames] * num_media, is_image=[is_image] * num_media)
    return groups.to(frames_BTCHW.device)
