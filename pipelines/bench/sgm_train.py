"""What sgm.py trains: ReCoT's compressor, decoder and masking, on features that are computed once.

Shape suffixes: N clips, B of a batch, T frames of a clip, C channels, H W grid; G groups of T'
frames, K tokens of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from sgm_clips import NUM_FRAMES, Clip
from sgm_regions import changes
from table7_train import batches
from torch import Tensor, nn

from vxp_model.models.presets import recot_preset
from vxp_model.models.recot import ReCoTModel
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.modules.frame_groups import FrameGroups
from vxp_model.modules.masking import draw_mask
from vxp_model.modules.shapes import DTSConfig, SGMConfig
from vxp_model.settings.recot import ReCoTOptimSettings
from vxp_model.train.engine import parameter_groups
from vxp_model.train.schedule import lr_factor

OPTIM: Final = ReCoTOptimSettings(lr=0.003)
"""The defaults of `vxp-model recot`, and a rate for so small a model."""
STRATUM_STEPS: Final = 4096
"""Places within a stratum of `stratify`: the lower 12 of the 24 bits of a float32 in [0, 1)."""
Guide = Literal["sgm", "random", "none", "oracle", "anti"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to mask."""

    guide: Guide
    """Who chooses: learned scores, chance, nobody; `oracle` hides what does not change first, by
    the clip's truth, `anti` what changes."""
    ratio: float = 0.0
    steps: int = 200
    more: tuple[tuple[str, Any], ...] = ()
    """Other settings of `SGMConfig`."""
    stratified: bool = False
    """A place is hidden in about its share of a group's frames, see `stratify`."""

    @property
    def name(self) -> str:
        """In the record: 'sgm 0.9', 'random 0.75 unmasked_share 0.25, 800 steps'."""
        words = [self.guide, *([f"{self.ratio:g}"] if self.ratio else [])]
        words += [f"{key} {value}" for key, value in self.more]
        words += ["stratified"] * self.stratified
        return " ".join(words) + (f", {self.steps} steps" if self.steps != 200 else "")

    def config(self) -> SGMConfig:
        """Return the masking's settings: the preset's pool, or the ratio if it is larger."""
        given = {"num_queries": 2, "ratio": self.ratio, "unmasked_share": 0.0, **dict(self.more)}
        return (
            SGMConfig(**given)
            if self.guide == "sgm"
            else SGMConfig(pool=1.0, grad_mode="none", **given)
        )


def recot_config(sgm: SGMConfig, *, width: int, grid: int) -> ReCoTConfig:
    """Return the tiny preset's shape, for maps of this width and grid."""
    tiny = recot_preset("tiny")
    return replace(
        tiny,
        vision=replace(tiny.vision, width=width),
        grid=grid,
        dts=DTSConfig(width=width, norm_groups=tiny.dts.norm_groups),
        sgm=sgm,
    )


def truth_scores(clips: list[Clip], guide: Guide) -> Tensor | None:
    """Return what `oracle` and `anti` choose by, high where a token is spared: [N, T, K]."""
    if guide not in ("oracle", "anti"):
        return None
    changes_NTK = torch.from_numpy(np.stack([changes(clip) for clip in clips])).float()
    return changes_NTK if guide == "oracle" else 1 - changes_NTK


def train(
    features_NTCHW: Tensor, arm: Arm, *, seed: int, batch: int, truth_NTK: Tensor | None = None
) -> ReCoTModel:
    """Train from chance, in one batch after another without a loader.

    Args:
        features_NTCHW: of the clips.
        arm: how they are masked, and for how long.
        seed: of weights, order and masks.
        batch: clips of a step.
        truth_NTK: of `truth_scores`.

    Returns:
        model: in eval mode.
    """
    sgm = arm.config()
    config = recot_config(sgm, width=features_NTCHW.shape[2], grid=features_NTCHW.shape[-1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ReCoTModel(config).train()
    parts, rate_mults = parameter_groups(
        model, weight_decay=OPTIM.weight_decay, rate_mults={"sgm.": OPTIM.sgm_lr_mult}
    )
    optimizer = torch.optim.AdamW(parts, lr=OPTIM.lr, betas=OPTIM.betas, eps=OPTIM.eps, fused=True)
    generator = torch.Generator().manual_seed(seed)
    groups = model.grouper([NUM_FRAMES] * batch)
    rows = batches(len(features_NTCHW), steps=arm.steps, seed=seed, batch=batch)
    for step, row_B in enumerate(rows):
        factor = lr_factor(step, total_steps=arm.steps, warmup=OPTIM.warmup, final=OPTIM.final_lr)
        for group, rate_mult in zip(optimizer.param_groups, rate_mults, strict=True):
            group["lr"] = OPTIM.lr * rate_mult * factor
        ratio = sgm.ratio_at(step / arm.steps)
        mask_GTK = noise_GTK = None
        if arm.stratified:
            shape = (*groups.frame_GT.shape, config.grid**2)
            noise_GTK = stratify(torch.rand(shape, generator=generator))
        if truth_NTK is not None:
            mask_GTK = truth_mask(truth_NTK[row_B], groups, ratio=ratio, generator=generator)
        output = model(
            groups=groups,
            features_FCHW=features_NTCHW[row_B].flatten(0, 1),
            mask_ratio=ratio,
            mask_GTN=mask_GTK,
            noise_GTN=noise_GTK,
            generator=generator,
        )
        optimizer.zero_grad()
        torch.autograd.backward(output.loss)
        nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip_norm)
        optimizer.step()
    return model.eval()


def truth_mask(
    truth_BTK: Tensor, groups: FrameGroups, *, ratio: float, generator: torch.Generator
) -> Tensor:
    """Hide the tokens of lowest truth, at random where it is equal: bool [G, T', K]."""
    truth_GTK = groups.gather(truth_BTK.flatten(0, 1))
    noise_GTK = torch.rand(truth_GTK.shape, generator=generator)
    num_masked = round(ratio * truth_GTK.shape[-1])
    return draw_mask(truth_GTK + noise_GTK / 2, noise_GTK, num_masked=num_masked,
                     num_pool=num_masked)  # fmt: skip


def stratify(noise_GTK: Tensor) -> Tensor:
    """Spread the noise of each place over its group: one frame in each T-th of [0, 1).

    Of the frames of a group, a place is then hidden in nearly the share that is masked, not in all
    of them or in none. In a single frame nothing changes: there the noise is as uniform, and as
    independent from place to place, as before.

    Args:
        noise_GTK: uniform, in [0, 1). Which frame gets which T-th follows from its
            order, where in it from its lower 12 bits, which that order hardly tells.
    """
    rank_GTK = noise_GTK.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    within_GTK = (noise_GTK * STRATUM_STEPS).frac()
    spread_GTK: Tensor = (rank_GTK + within_GTK) / noise_GTK.shape[1]
    return spread_GTK
