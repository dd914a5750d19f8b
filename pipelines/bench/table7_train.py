"""What table7.py trains: Video-XL-Pro's visual path, at the tiny size, with a head for answers.

Shape suffixes: N rows, B of a batch, T frames, H W pixels or grid, C channels; G groups of frames,
K visual tokens of a group, D their width; Q questions, A options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import torch
from table7_clips import LETTERS, QUESTIONS, SIDE_PX
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.data.frames import FrameOptions
from vxp_model.data.loader import ShardLoader
from vxp_model.data.order import OrderRule
from vxp_model.models.frame_encoder import FrameEncoder
from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
from vxp_model.modules.siglip import normalise_frames

BATCH: Final = 32
LEARNING_RATE: Final = 0.002
WARMUP: Final = 0.05
HIDDEN: Final = 128
AT_ONCE: Final = 64
"""Rows that are encoded or answered at once, without a graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Rows of shards, with what is seen of each."""

    sample_ids: tuple[str, ...]
    seen_N: Tensor
    """uint8 frames [N, T, H, W, 3], or their features, float32 [N, T, C, H, W]."""
    question_N: Tensor
    """int64: index in QUESTIONS."""
    answer_N: Tensor
    """int64: index among the options."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, sample_ids: Sequence[str]) -> Self:
        """Return the rows of these names, in that order.

        Raises:
            KeyError: there is none of this name.
        """
        index = {name: row for row, name in enumerate(self.sample_ids)}
        row_M = torch.tensor([index[name] for name in sample_ids])
        return type(self)(
            sample_ids=tuple(sample_ids),
            seen_N=self.seen_N[row_M],
            question_N=self.question_N[row_M],
            answer_N=self.answer_N[row_M],
        )


class Answerer(nn.Module):
    """Compressor and projector of the tiny preset, and two layers that answer, behind its tower.

    All of it starts from chance. The tower stays so, as in ReCoT; its features, brought to mean 0
    and spread 1 by channel, are computed once.
    """

    mean_C11: Tensor
    spread_C11: Tensor

    def __init__(self, *, num_frames: int, seed: int, num_questions: int = len(QUESTIONS)) -> None:
        super().__init__()
        self.num_questions = num_questions
        config = video_xl_pro_preset("tiny")
        groups = -(-num_frames // config.temporal_factor)
        width = groups * config.group_tokens * config.text_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = FrameEncoder(config)
            self.head = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, HIDDEN),
                nn.GELU(),
                nn.Linear(HIDDEN, num_questions * len(LETTERS)),
            )
        self.encoder.set_chunk_frames(AT_ONCE * num_frames)
        self.register_buffer("mean_C11", torch.zeros(config.vision.width, 1, 1))
        self.register_buffer("spread_C11", torch.ones(config.vision.width, 1, 1))

    @torch.no_grad()
    def features(self, rows: Examples) -> Examples:
        """Run the tower over the frames of rows: they come back with features in their place."""
        parts = []
        for frames_BTHWC in rows.seen_N.split(AT_ONCE):
            pixels_FCHW = normalise_frames(frames_BTHWC.flatten(0, 1))
            features_FCHW = self.encoder.resampler(self.encoder.tower(pixels_FCHW))
            parts.append(features_FCHW.unflatten(0, frames_BTHWC.shape[:2]))
        return replace(rows, seen_N=torch.cat(parts))

    def forward(self, features_BTCHW: Tensor, question_B: Tensor) -> Tensor:
        """Return the logits of the options: [B, A]."""
        num_clips, num_frames = features_BTCHW.shape[:2]
        scaled_FCHW = ((features_BTCHW - self.mean_C11) / self.spread_C11).flatten(0, 1)
        x_GTCHW = self.encoder.grouper([num_frames] * num_clips).gather(scaled_FCHW)
        y_GCTHW = self.encoder.dts(x_GTCHW.transpose(1, 2))
        y_GKC = y_GCTHW.permute(0, 2, 3, 4, 1).flatten(1, 3)
        tokens_GKD = self.encoder.pool(self.encoder.projector(y_GKC))
        logits_BX: Tensor = self.head(tokens_GKD.reshape(num_clips, -1))
        logits_BQA = logits_BX.unflatten(1, (self.num_questions, len(LETTERS)))
        return logits_BQA[torch.arange(num_clips), question_B]


def read_examples(shards: Path) -> Examples:
    """Read all rows of a shard directory, frames decoded; their tasks end in the question's key."""
    loader = ShardLoader(
        str(shards), order=OrderRule(shuffle=False), frames=FrameOptions(frame_px=SIDE_PX)
    )
    samples = [sample for batch in loader for sample in batch.samples]
    if loader.replaced:
        raise RuntimeError(f"{shards}: {len(loader.replaced)} clips could not be read")
    questions = list(QUESTIONS)
    return Examples(
        sample_ids=tuple(sample.sample_id for sample in samples),
        seen_N=torch.stack([s.frames_THWC for s in samples if s.frames_THWC is not None]),
        question_N=torch.tensor([questions.index(s.task.rpartition("-")[2]) for s in samples]),
        answer_N=torch.tensor([LETTERS.index(s.conversation[-1].text) for s in samples]),
    )


def batches(num_rows: int, *, steps: int, seed: int, batch: int = BATCH) -> Tensor:
    """Draw the rows of every step, int64 [steps, batch]: each row once before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    epochs = math.ceil(steps * batch / num_rows)
    order = torch.cat([torch.randperm(num_rows, generator=generator) for _ in range(epochs)])
    return order[: steps * batch].reshape(steps, batch)


def train(
    rows: Examples,
    *,
    steps: int,
    seed: int,
    num_questions: int = len(QUESTIONS),
    batch: int = BATCH,
    compressor: nn.Module | None = None,
    train_compressor: bool = True,
) -> tuple[Answerer, float]:
    """Train from chance.

    Args:
        rows: what is trained on, with features.
        steps: of the optimizer, whatever the number of rows.
        seed: of weights and order: the same weights for all sets of rows.
        num_questions: that there are; those of the rows are below.
        batch: rows of a step.
        compressor: whose weights the compressor begins with; None: chance.
        train_compressor: or leave it as it is.

    Returns:
        The model, and its mean loss over the last tenth of the steps.
    """
    model = Answerer(num_frames=rows.seen_N.shape[1], seed=seed, num_questions=num_questions)
    if compressor is not None:
        model.encoder.dts.load_state_dict(compressor.state_dict())
    model.encoder.dts.requires_grad_(train_compressor)
    model.mean_C11.copy_(rows.seen_N.mean((0, 1, 3, 4))[:, None, None])
    model.spread_C11.copy_(rows.seen_N.std((0, 1, 3, 4))[:, None, None])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=(0.9, 0.95))
    warmup = max(1, round(WARMUP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    losses = []
    for row_B in batches(len(rows), steps=steps, seed=seed, batch=batch):
        logits_BA = model(rows.seen_N[row_B], rows.question_N[row_B])
        loss = functional.cross_entropy(logits_BA, rows.answer_N[row_B])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    last = losses[-max(1, steps // 10) :]
    return model, sum(last) / len(last)


@torch.no_grad()
def right_answers(model: Answerer, rows: Examples) -> Tensor:
    """Return which rows, with features, the model answers as they say: bool [N]."""
    parts = [
        model(rows.seen_N[row_B], rows.question_N[row_B]).argmax(-1) == rows.answer_N[row_B]
        for row_B in torch.arange(len(rows)).split(AT_ONCE)
    ]
    return torch.cat(parts)
