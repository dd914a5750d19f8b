"""What sgm.py measures of a trained compressor, on clips that it was not trained on.

Shape suffixes: N clips, B of a batch, T frames of a clip, C channels, H W grid; G groups of T'
frames, K tokens of a frame; D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from sgm_clips import MOTIONS, NUM_FRAMES, TINTS, Clip
from sgm_regions import auc, stacked
from torch import Tensor

from vxp_model.eval.mlp_probe import probe_accuracy
from vxp_model.eval.probe_features import average, compressed
from vxp_model.models.recot import ReCoTModel
from vxp_model.modules.masking import draw_mask

CELLS: Final = (2, 4)
"""Sides of the views that probes have."""
HIDDEN_RATIOS: Final = (0.5, 0.75, 0.9)
"""Of the random masks under which all arms rebuild."""
AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Clips with labels: the first are the probes' to learn from, the others to be measured on."""

    clips: list[Clip]
    features_NTCHW: Tensor
    num_probe: int
    """That probes learn from."""
    num_rebuilt: int
    """Of the others, that are rebuilt."""


def outcomes(model: ReCoTModel, held: Held) -> dict[str, float]:
    """Return every figure of one training, by name."""
    rebuilt = slice(held.num_probe, held.num_probe + held.num_rebuilt)
    clips, features_NTCHW = held.clips[rebuilt], held.features_NTCHW[rebuilt]
    return (
        errors(model, clips, features_NTCHW)
        | aucs(model, clips, features_NTCHW)
        | probes(model, held)
    )


@torch.no_grad()
def errors(model: ReCoTModel, clips: Sequence[Clip], features_NTCHW: Tensor) -> dict[str, float]:
    """Return squared errors in shares of what guessing each place's mean would cost.

    `clean <region>`: nothing hidden. `hidden <ratio>`: of the tokens that one random mask, the same
    for all models, hides.
    """
    x_NTKC = features_NTCHW.flatten(3).transpose(2, 3)
    guess_NTK = (x_NTKC - x_NTKC.mean((0, 1))).square().mean(-1)
    clean_NTK = rebuild_errors(model, features_NTCHW, None)
    found = {}
    for name, own in stacked(clips).items():
        region_NTK = torch.from_numpy(own)
        found[f"clean {name}"] = _ratio(clean_NTK, guess_NTK, region_NTK)
    noise_NTK = torch.rand(guess_NTK.shape, generator=torch.Generator().manual_seed(0))
    num_tokens = guess_NTK.shape[-1]
    for ratio in HIDDEN_RATIOS:
        mask_NTK = draw_mask(
            torch.zeros_like(noise_NTK), noise_NTK,
            num_masked=round(ratio * num_tokens), num_pool=num_tokens,
        )  # fmt: skip
        hidden_NTK = rebuild_errors(model, features_NTCHW, mask_NTK)
        found[f"hidden {ratio}"] = _ratio(hidden_NTK, guess_NTK, mask_NTK)
    return found


def rebuild_errors(model: ReCoTModel, features_NTCHW: Tensor, mask_NTK: Tensor | None) -> Tensor:
    """Return each token's mean squared error: [N, T, K]."""
    parts = []
    for start in range(0, len(features_NTCHW), AT_ONCE):
        x_BTCHW = features_NTCHW[start : start + AT_ONCE]
        groups = model.grouper([NUM_FRAMES] * len(x_BTCHW))
        mask_GTK = None
        if mask_NTK is not None:
            mask_GTK = groups.gather(mask_NTK[start : start + AT_ONCE].flatten(0, 1))
        output = model(groups=groups, features_FCHW=x_BTCHW.flatten(0, 1), mask_GTN=mask_GTK)
        parts.append(output.error_GTN.reshape(len(x_BTCHW), NUM_FRAMES, -1))
    return torch.cat(parts)


@torch.no_grad()
def aucs(model: ReCoTModel, clips: Sequence[Clip], features_NTCHW: Tensor) -> dict[str, float]:
    """Return what the masking's scores tell apart; 0.5 is chance.

    `auc time`: what moves, above what is still. `auc salience`: a bright patch that stands still,
    above what is still. `auc time over salience`: what moves, above that patch: only in the scene
    with a decoy are both in one frame.
    """
    groups = model.grouper([NUM_FRAMES] * len(features_NTCHW))
    x_FKC = features_NTCHW.flatten(0, 1).flatten(2).transpose(1, 2)
    scores_GTK = model.sgm.scores(groups.gather(x_FKC), prev_BNC=x_FKC[groups.previous_G])
    scores_FK = scores_GTK.flatten(0, 1).numpy()
    own = {name: region_NTK.reshape(scores_FK.shape) for name, region_NTK in stacked(clips).items()}
    found = {
        "auc time": auc(scores_FK, own["moving"], own["still"]),
        "auc salience": auc(scores_FK, own["standing"], own["still"]),
    }
    if any(clip.decoy_TN.any() for clip in clips):
        found["auc time over salience"] = auc(scores_FK, own["moving"], own["standing"])
    return found


def probes(model: ReCoTModel, held: Held) -> dict[str, float]:
    """Return the top-1 of two-layer classifiers on compressed tokens, averaged over time.

    `motion <cells>`: which way the patch moves; `content <cells>`: which tint it has.
    """
    tokens_NTCHW = torch.cat(
        [
            compressed(model, part, is_image=False)
            for part in torch.split(held.features_NTCHW, AT_ONCE)
        ]
    )
    labels = {
        "motion": torch.tensor([list(MOTIONS).index(clip.motion) for clip in held.clips]),
        "content": torch.tensor([list(TINTS).index(clip.tint) for clip in held.clips]),
    }
    found = {}
    for cells in CELLS:
        view_ND = average(tokens_NTCHW, cells=cells, over_time="mean")
        for name, label_N in labels.items():
            found[f"{name} {cells}"] = probe(view_ND, label_N, held.num_probe)
    return found


def probe(view_ND: Tensor, label_N: Tensor, num_probe: int) -> float:
    """Return the top-1 on the rows after the first, of a classifier trained on those."""
    return probe_accuracy(
        view_ND[:num_probe], label_N[:num_probe], view_ND[num_probe:], label_N[num_probe:],
        num_classes=int(label_N.max()) + 1, hidden=128, epochs=30, batch=64, lr=0.003,
        weight_decay=0.01, seed=0,
    )  # fmt: skip


def tower_probes(held: Held) -> dict[str, float]:
    """Return the same of the tower's own tokens, averaged over time alike."""
    found = {}
    for cells in CELLS:
        view_ND = average(held.features_NTCHW, cells=cells, over_time="mean")
        label_N = torch.tensor([list(MOTIONS).index(clip.motion) for clip in held.clips])
        found[f"motion {cells}"] = probe(view_ND, label_N, held.num_probe)
    return found


def _ratio(error_NTK: Tensor, guess_NTK: Tensor, region_NTK: Tensor) -> float:
    return float(error_NTK[region_NTK].mean() / guess_NTK[region_NTK].mean())
