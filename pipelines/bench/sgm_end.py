"""The end that masking is for, at a size for a CPU: do questions get answered better?

What the paper's Table 6 measures, with table7_train's answerer in the MLLM's place: the tiny
preset's tower (random weights), compressor, projector and two layers that answer, on table7's clips
and questions. The compressor begins with what ReCoT made of it under one masking or another, on the
same clips without their questions, or from chance; then it stays as it is (`frozen`), or is trained
on with the rest (`tuned`), as in the paper's fine-tuning.

Shape suffixes: N rows, T frames, H W pixels or grid, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from sgm_clips import NUM_FRAMES
from sgm_train import Arm
from sgm_train import train as train_recot
from table7_clips import QUESTIONS, PoolClip, draw_clips
from table7_train import Answerer, Examples, right_answers
from table7_train import train as train_answerer
from torch import Tensor

TRAINED: Final = 640
ASKED: Final = 960
HELDOUT_SEED: Final = 1000
STEPS: Final = 200
"""Of the answerer, with its own rate and batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Rows with features: to learn from, and to be asked about."""

    train: Examples
    heldout: Examples
    active_N: Tensor
    """bool: in these held-out clips happens what is asked."""


def asked(seed: int) -> Asked:
    """Draw the rows of a seed, which also draws the tower."""
    tower = Answerer(num_frames=NUM_FRAMES, seed=seed)
    clips = draw_clips(TRAINED, np.random.default_rng(seed))
    heldout = draw_clips(ASKED, np.random.default_rng(HELDOUT_SEED))
    return Asked(
        train=tower.features(examples(clips)),
        heldout=tower.features(examples(heldout)),
        active_N=torch.tensor([clip.active for clip in heldout]),
    )


def examples(clips: list[PoolClip]) -> Examples:
    """Return rows of clips, uniform frames of each, as training reads them from shards."""
    frames = []
    for clip in clips:
        num_frames = len(clip.frames_THWC)
        at_T = ((np.arange(NUM_FRAMES) + 0.5) * num_frames / NUM_FRAMES).astype(int)
        frames.append(torch.from_numpy(clip.frames_THWC[at_T]))
    questions = list(QUESTIONS)
    return Examples(
        sample_ids=tuple(str(number) for number in range(len(clips))),
        seen_N=torch.stack(frames),
        question_N=torch.tensor([questions.index(clip.task) for clip in clips]),
        answer_N=torch.tensor([QUESTIONS[clip.task][1].index(clip.answer) for clip in clips]),
    )


def end_outcomes(rows: Asked, arm: Arm | None, *, seed: int) -> dict[str, float]:
    """Return the shares of right answers, with the compressor frozen and tuned.

    Args:
        rows: of `asked`.
        arm: how the compressor was trained; None: not at all.
        seed: of all weights, order and masks.
    """
    compressor = None
    if arm is not None:
        seen_NTCHW = rows.train.seen_N
        mean_C11 = seen_NTCHW.mean((0, 1, 3, 4))[:, None, None]
        spread_C11 = seen_NTCHW.std((0, 1, 3, 4))[:, None, None]
        scaled_NTCHW = (seen_NTCHW - mean_C11) / spread_C11  # as the answerer brings them to it
        compressor = train_recot(scaled_NTCHW, arm, seed=seed, batch=8).dts
    found = {}
    for name, tuned in (("frozen", False), ("tuned", True)):
        model, loss = train_answerer(
            rows.train, steps=STEPS, seed=seed, compressor=compressor, train_compressor=tuned
        )
        right_N = right_answers(model, rows.heldout).float()
        found[f"{name} active"] = float(right_N[rows.active_N].mean())
        found[f"{name} all"] = float(right_N.mean())
        found[f"{name} loss"] = loss
    return found
