"""What selector_board.py trains on the rows that a selector has taken: two learners.

Both see the same frozen features of EfficientNet-Lite0 (table7_tower.py):

    visual_path  Video-XL-Pro's visual path at the tiny size with a head for answers, as table7.py
                 trains it; the verdict is about this one
    ridge        one linear map from all features of a clip to the answers of each question; a fit
                 takes milliseconds, and needs fewer rows

Shape suffixes: N rows that are learned from, M that are asked, F features, A options.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from selector_pools import BenchRow
from sgm_clips import SIDE_PX
from table7_tower import TrainedTower
from table7_train import Examples, right_answers, train
from torch import Tensor

from vxp_model.data.frames import FrameOptions
from vxp_model.data.loader import ShardLoader
from vxp_model.data.order import OrderRule

BATCH: Final = 16
"""Rows of a step, half of table7.py's: at as many steps not worse, and cheaper."""
ENLARGED_PX: Final = 112
"""A fourth of the work that the network's own 224 px are."""

LAMBDAS: Final = tuple(10.0**power for power in range(-3, 4))
"""Of the ridge, times the mean of the features' squared lengths; chosen by leaving one out."""


def read_maps(shards: Path) -> Examples:
    """Read the clips of a shard directory, a row each, with the tower's maps; without questions."""
    loader = ShardLoader(
        str(shards), order=OrderRule(shuffle=False), frames=FrameOptions(frame_px=SIDE_PX)
    )
    samples = [sample for batch in loader for sample in batch.samples]
    if loader.replaced:
        raise RuntimeError(f"{shards}: {len(loader.replaced)} clips could not be read")
    nothing_N = torch.zeros(len(samples), dtype=torch.int64)
    clips = Examples(
        sample_ids=tuple(sample.sample_id for sample in samples),
        seen_N=torch.stack([s.frames_THWC for s in samples if s.frames_THWC is not None]),
        question_N=nothing_N,
        answer_N=nothing_N,
    )
    return replace(clips, seen_N=TrainedTower(side_px=ENLARGED_PX).grid_maps(clips))


def examples_of(
    ids: list[str], rows: list[BenchRow], questions: tuple[str, ...], clips: Examples
) -> Examples:
    """Return rows as what is learned from or asked.

    Args:
        ids: of the rows.
        rows: questions about clips.
        questions: all that models are told of questions.
        clips: what is seen of each, by sample ids `bank/<name>`.
    """
    seen = clips.take([f"bank/{row.clip.name}" for row in rows])
    return Examples(
        sample_ids=tuple(ids),
        seen_N=seen.seen_N,
        question_N=torch.tensor([questions.index(row.question) for row in rows]),
        answer_N=torch.tensor([row.options.index(row.answer) for row in rows]),
    )


def visual_path(
    rows: Examples, asked: Examples, *, num_questions: int, steps: int, seed: int
) -> float:
    """Train table7.py's learner; return the share of questions that it then answers right."""
    model, _ = train(rows, steps=steps, seed=seed, num_questions=num_questions, batch=BATCH)
    return float(right_answers(model, asked).float().mean())


def ridge(rows: Examples, asked: Examples) -> float:
    """Fit the linear learner, each question by itself; return the share answered right.

    A question that no row asks is answered with the first option.
    """
    mean, spread = rows.seen_N.mean((0, 1, 3, 4)), rows.seen_N.std((0, 1, 3, 4)) + 1e-6
    shape = (-1, 1, 1)
    x_NF, x_MF = (
        ((part.seen_N - mean.view(shape)) / spread.view(shape)).flatten(1).double()
        for part in (rows, asked)
    )
    right = 0
    for question in asked.question_N.unique():
        learn_N, ask_M = rows.question_N == question, asked.question_N == question
        answer_M = torch.zeros(int(ask_M.sum()), dtype=torch.int64)
        if learn_N.any():
            answer_M = _ridge(x_NF[learn_N], rows.answer_N[learn_N], x_MF[ask_M])
        right += int((answer_M == asked.answer_N[ask_M]).sum())
    return right / len(asked)


def _ridge(x_NF: Tensor, answer_N: Tensor, x_MF: Tensor) -> Tensor:
    """Return the answers to what is asked, by the ridge whose left-out errors are least."""
    y_NA = torch.nn.functional.one_hot(answer_N, 4).double() - 0.25
    kernel_NN = x_NF @ x_NF.T + 1.0  # the 1 is the offset
    value_N, vector_NN = torch.linalg.eigh(kernel_NN)
    best, weight_NA = float("inf"), torch.zeros_like(y_NA)
    for share in LAMBDAS:
        inverse_NN = vector_NN / (value_N.clamp(min=0) + share * value_N.mean()) @ vector_NN.T
        alpha_NA = inverse_NN @ y_NA
        left_out_NA = alpha_NA / inverse_NN.diagonal()[:, None]
        error = float((left_out_NA**2).mean())
        if error < best:
            best, weight_NA = error, alpha_NA
    return ((x_MF @ x_NF.T + 1.0) @ weight_NA).argmax(-1)
