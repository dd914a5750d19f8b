"""One optimizer step of Video-XL-Pro's training.

Every label token weighs the same, however the step's samples are dealt out to processes and
micro-batches.

Shape suffixes: K label tokens of a micro-batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.errors import UserError
from vxp_model.models.flops import MllmFlops
from vxp_model.models.output import VideoXLProOutput
from vxp_model.models.visual_sequence import Selection
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.mllm.batches import MllmBatch

_ALWAYS_USED: Final = "language_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmStepResult:
    """What a step gave, over all processes."""

    loss: float
    """Mean cross-entropy over the step's label tokens."""
    accuracy: float
    """Share of label tokens that were the likeliest."""
    loss_by_task: dict[str, float]
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
    ) -> None:
        """Hold what a step needs.

        Args:
            engine: of the model.
            context: the processes.
            flops: what the model takes.
            frames_per_group: the model's temporal factor.
            packed: run samples one behind the other; see the model's `forward`.
        """
        self._engine = engine
        self._context = context
        self._flops = flops
        self._frames_per_group = frames_per_group
        self._packed = packed

    def run(self, batches: Sequence[MllmBatch], *, lr: float) -> MllmStepResult:
        """Run a step.

        Args:
            batches: of this process; as many in every process.
            lr: highest rate of the step.

        Raises:
            UserError: a sample's text exceeds the context limit; a loss or the gradient is not
                finite.
        """
        context, grad_norm = self._context, math.nan
        own = sum(batch.num_labels for batch in batches)
        (num_labels,) = context.sum([float(own)])
        share = context.size * len(batches) / max(num_labels, 1)
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        correct = kept = visual = 0
        flop = 0.0
        for batch in batches:
            anchor = self._anchor()  # before the forward pass: see there
            output = self._forward(batch)
            assert output.loss is not None
            norm = self._engine.backward(output.loss * (batch.num_labels * share) + anchor, lr=lr)
            grad_norm = grad_norm if norm is None else norm
            correct += _add_losses(output, batch.tasks, sums)
            kept += sum(selection.num_kept for selection in output.selections or ())
            visual += sum(selection.num_visual for selection in output.selections or ())
            flop += self.flop_of(batch, output.selections or ())
        ids = [sample_id for batch in batches for sample_id in batch.sample_ids]
        ids = [sample_id for everyone in context.gather(ids) for sample_id in everyone]
        tasks = _merged(context.gather(dict(sums)))
        total = sum(pair[0] for pair in tasks.values())
        if math.isnan(grad_norm) or not math.isfinite(total):
            raise UserError(
                "the loss or its gradient is not finite; nothing is saved of this step. Its "
                f"samples: {', '.join(ids)}. If they are in order, lower optim.lr in a new run; "
                "the last checkpoint is unharmed."
            )
        positions = sum(batch.num_positions for batch in batches)
        sequences = sum(sum(batch.num_sequences) for batch in batches)
        numbers = context.sum(
            [float(n) for n in (correct, kept, visual, positions, flop, sequences)]
        )
        return MllmStepResult(
            loss=total / max(num_labels, 1),
            accuracy=numbers[0] / max(num_labels, 1),
            loss_by_task={task: sums[0] / sums[1] for task, sums in tasks.items() if sums[1]},
            grad_norm=grad_norm,
            lr=lr,
            num_sequences=int(numbers[5]),
            num_labels=int(num_labels),
            num_positions=int(numbers[3]),
            num_kept=int(numbers[1]),
            num_visual=int(numbers[2]),
            flop=numbers[4],
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


@torch.no_grad()
def _add_losses(
    output: VideoXLProOutput, tasks: Sequence[str], sums: dict[str, list[float]]
) -> int:
    """Add each sample's loss to its task's; return the label tokens that were the likeliest."""
    logits, label_ids, counts = output.logits, output.label_ids, output.num_labels_B
    assert logits is not None
    assert label_ids is not None
    assert counts is not None
    loss_K = functional.cross_entropy(logits, label_ids, reduction="none")
    for task, part in zip(tasks, loss_K.split(counts.tolist()), strict=True):  # type: ignore[no-untyped-call]
        pair = sums[task]
        pair[0] += float(part.sum())
        pair[1] += len(part)
    return int((logits.argmax(-1) == label_ids).sum()) if len(label_ids) else 0


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
