"""One optimizer step of Video-XL-Pro's training.

What is minimised is the mean over the step's label tokens, or over its samples of each one's own
mean, however the samples are dealt out to processes and micro-batches.

Shape suffixes: B samples and K label tokens of a micro-batch, P positions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from vxp_model.errors import UserError
from vxp_model.models.flops import MllmFlops
from vxp_model.models.output import VideoXLProOutput
from vxp_model.models.visual_sequence import IGNORED_LABEL, Selection
from vxp_model.settings.mllm import LossMean
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.mllm.batches import MllmBatch

_ALWAYS_USED: Final = "language_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmStepResult:
    """What a step gave, over all processes."""

    loss: float
    """What is minimised."""
    token_loss: float
    """Mean cross-entropy over the step's label tokens, whatever is minimised."""
    accuracy: float
    """Share of label tokens that were the likeliest."""
    token_loss_by_task: dict[str, float]
    grad_norm: float
    """Before clipping."""
    lr: float
    num_sequences: int
    """What the step's samples became."""
    num_labels: int
    num_positions: int
    num_kept: int
    """Visual tokens that the language model got."""
    num_visual: int
    flop: float
    """Operations that the step needs, forward and backward; see `flops`."""
    sample_ids: list[str]


class MllmStepper:
    """Runs steps on an engine."""

    def __init__(
        self,
        engine: Engine,
        context: DistributedContext,
        *,
        flops: MllmFlops,
        frames_per_group: int,
        packed: bool,
        loss: LossMean,
    ) -> None:
        """Hold what a step needs.

        Args:
            engine: of the model.
            context: the processes.
            flops: what the model takes.
            frames_per_group: the model's temporal factor.
            packed: run samples one behind the other; see the model's `forward`.
            loss: over what it is a mean; see `MllmRecipe.loss`.
        """
        self._engine = engine
        self._context = context
        self._flops = flops
        self._frames_per_group = frames_per_group
        self._packed = packed
        self._loss = loss

    def run(self, batches: Sequence[MllmBatch], *, lr: float) -> MllmStepResult:
        """Run a step.

        Args:
            batches: of this process; as many in every process.
            lr: highest rate of the step.

        Raises:
            UserError: a sample's text exceeds the context limit; a loss or the gradient is not
                finite.
        """
        context, sums, grad_norm = self._context, _Sums(), math.nan
        labels = sum(batch.num_labels for batch in batches)
        num_labels, num_learned = context.sum([labels, sum(map(_num_learned, batches))])
        total = max(num_labels if self._loss == "token" else num_learned, 1)
        share = context.size * len(batches) / total
        flop = 0.0
        for batch in batches:
            anchor = self._anchor()  # before the forward pass: see there
            output = self._forward(batch)
            minimised = sums.add(output, batch, self._loss)
            norm = self._engine.backward(minimised * share + anchor, lr=lr)
            grad_norm = grad_norm if norm is None else norm
            flop += self.flop_of(batch, output.selections or ())
        ids = [sample_id for batch in batches for sample_id in batch.sample_ids]
        ids = [sample_id for everyone in context.gather(ids) for sample_id in everyone]
        tasks = _merged(context.gather(dict(sums.by_task)))
        token_total = sum(pair[0] for pair in tasks.values())
        if math.isnan(grad_norm) or not math.isfinite(token_total):
            raise UserError(
                "the loss or its gradient is not finite; nothing is saved of this step. Its "
                f"samples: {', '.join(ids)}. If they are in order, lower optim.lr in a new run; "
                "the last checkpoint is unharmed."
            )
        positions = sum(batch.num_positions for batch in batches)
        sequences = sum(sum(batch.num_sequences) for batch in batches)
        numbers = context.sum(
            [sums.minimised, sums.correct, sums.kept, sums.visual, positions, flop, sequences]
        )
        return MllmStepResult(
            loss=numbers[0] / total,
            token_loss=token_total / max(num_labels, 1),
            accuracy=numbers[1] / max(num_labels, 1),
            token_loss_by_task={t: pair[0] / pair[1] for t, pair in tasks.items() if pair[1]},
            grad_norm=grad_norm,
            lr=lr,
            num_sequences=int(numbers[6]),
            num_labels=int(num_labels),
            num_positions=int(numbers[4]),
            num_kept=int(numbers[2]),
            num_visual=int(numbers[3]),
            flop=numbers[5],
            sample_ids=ids,
        )

    def _forward(self, batch: MllmBatch) -> VideoXLProOutput:
        device = self._context.device
        inputs: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in batch.inputs.items()
        }
        try:
            output: VideoXLProOutput = self._engine.forward(
                **inputs, selector_seeds=batch.selector_seeds, packed=self._packed
            )
        except UserError as error:
            raise UserError(f"samples {', '.join(batch.sample_ids)}: {error}") from error
        return output

    def flop_of(self, batch: MllmBatch, selections: Sequence[Selection]) -> float:
        """Return the operations of one pass over a batch, of what the selector left of it."""
        clips = batch.inputs.get("clip_frames", ())
        before = batch.inputs["attention_mask"].sum(-1).tolist()
        gone = [s.num_visual - s.num_kept + s.num_dropped_time for s in selections]
        return self._flops.of_samples(
            num_frames=len(batch.inputs.get("frames", ())),
            num_groups=sum(-(-int(count) // self._frames_per_group) for count in clips),
            positions=[count - less for count, less in zip(before, gone, strict=True)],
            num_labels=batch.num_labels,
        )

    def _anchor(self) -> Tensor:
        """Return a zero that depends on all that is trained beside the language model.

        A sample without frames uses no compressor, one whose tokens all stay no selector. ZeRO adds
        up gradients in the order in which they become whole, which must be the same in every
        process, or it adds those of different parameters. Torch goes back through a graph from what
        was made last: made first, this is what all these parameters wait for, in its order.
        """
        firsts = [
            parameter.flatten()[:1].float()
            for name, parameter in self._engine.module.named_parameters()
            if parameter.requires_grad and not name.startswith(_ALWAYS_USED)
        ]
        return (
            torch.cat(firsts).sum() * 0 if firsts else torch.zeros((), device=self._context.device)
        )


@dataclass(slots=True)
class _Sums:
    """Sums over this process's micro-batches."""

    minimised: float = 0.0
    correct: float = 0.0
    kept: float = 0.0
    visual: float = 0.0
    by_task: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    """Task -> cross-entropy of its label tokens, how many they are."""

    def add(self, output: VideoXLProOutput, batch: MllmBatch, loss: LossMean) -> Tensor:
        """Add a micro-batch; return the sum that is minimised, to go back from."""
        losses_K, counts_B = output.losses_K, output.num_labels_B
        logits, label_ids = output.logits, output.label_ids
        assert losses_K is not None
        assert counts_B is not None
        assert logits is not None
        assert label_ids is not None
        minimised = (losses_K * label_weights(counts_B, loss, batch.num_sequences)).sum()
        self.minimised += float(minimised.detach())
        parts = losses_K.detach().split(counts_B.tolist())  # type: ignore[no-untyped-call]
        for task, part in zip(batch.tasks, parts, strict=True):
            pair = self.by_task[task]
            pair[0] += float(part.sum())
            pair[1] += len(part)
        if len(label_ids):
            self.correct += int((logits.detach().argmax(-1) == label_ids).sum())
        self.kept += sum(selection.num_kept for selection in output.selections or ())
        self.visual += sum(selection.num_visual for selection in output.selections or ())
        return minimised


def label_weights(counts_B: Tensor, loss: LossMean, num_sequences: Sequence[int]) -> Tensor:
    """Return what each label token counts in the sum that is minimised.

    Args:
        counts_B: int64, label tokens of each sequence; one without counts nothing.
        loss: see `MllmRecipe.loss`.
        num_sequences: of each sample.

    Returns:
        weight_K: float32; of a sample's tokens, in all its sequences, 1 each, or 1 together.
    """
    weight_B = torch.ones_like(counts_B, dtype=torch.float32)
    if loss == "sample":
        parts = counts_B.split(list(num_sequences))  # type: ignore[no-untyped-call]
        weight_B /= torch.cat([part.sum().expand(len(part)) for part in parts]).clamp_min(1)
    return weight_B.repeat_interleave(counts_B)


def _num_learned(batch: MllmBatch) -> int:
    """Return how many samples have a label; padding has none."""
    has_label_B = (batch.inputs["labels"][:, 1:] != IGNORED_LABEL).any(-1)
    parts = has_label_B.split(batch.num_sequences)  # type: ignore[no-untyped-call]
    return sum(bool(part.any()) for part in parts)


def _merged(everyone: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    merged: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for sums in everyone:
        for task in sorted(sums):
            merged[task][0] += sums[task][0]
            merged[task][1] += sums[task][1]
    return dict(sorted(merged.items()))


def trained_parameters(module: nn.Module) -> int:
    """Count what is trained."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
