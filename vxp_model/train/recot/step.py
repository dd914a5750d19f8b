"""One optimizer step: micro-batches of this process, summed up with the others'.

Every frame that counts weighs the same, however the step's samples are dealt out to processes and
micro-batches: that is what makes the losses the same on one process and on many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vxp_model.errors import UserError
from vxp_model.models.recot import ReCoTModel, ReCoTOutput
from vxp_model.train.batches import MicroBatch
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.recot.features import FeatureSource

DIAGNOSTICS = (
    "score_change_corr",
    "score_error_corr",
    "score_entropy",
    "pool_static_share",
    "masked_share",
)
"""See modules.mask_diagnostics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskView:
    """One clip of a step, for an image of its mask."""

    frames_THWC: Tensor
    mask_TN: Tensor
    scores_TN: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step gave, over all processes."""

    loss: float
    """What is minimised: mean over the frames that count; NaN where no batch had a loss."""
    reconstruction_loss: float
    grad_norm: float
    """Before clipping."""
    lr: float
    mask_ratio: float
    num_frames: int
    """Frames that count."""
    diagnostics: dict[str, float]
    bad_batches: list[list[str]]
    """Sample ids of batches whose loss was no number: they gave no gradient."""
    view: MaskView | None


@dataclass(slots=True)
class _Sums:
    """Sums over this process's batches, each number weighted by the frames that count."""

    frames: float = 0.0
    loss: float = 0.0
    reconstruction: float = 0.0
    diagnostics: dict[str, list[float]] = field(
        default_factory=lambda: {name: [0.0, 0.0] for name in DIAGNOSTICS}
    )

    def add(self, output: ReCoTOutput, weight: int) -> bool:
        """Add a batch; return whether it has a loss, without which nothing is added."""
        values = [output.loss, output.reconstruction_loss, *output.diagnostics.values()]
        # One wait for the device.
        loss, reconstruction, *diagnostics = torch.stack([v.detach() for v in values]).tolist()
        if not math.isfinite(loss):
            return False
        self.frames += weight
        self.loss += weight * loss
        self.reconstruction += weight * reconstruction
        for name, number in zip(output.diagnostics, diagnostics, strict=True):
            if math.isfinite(number):
                pair = self.diagnostics[name]
                pair[0] += weight * number
                pair[1] += weight
        return True

    def numbers(self) -> list[float]:
        pairs = [number for name in DIAGNOSTICS for number in self.diagnostics[name]]
        return [self.frames, self.loss, self.reconstruction, *pairs]


class Stepper:
    """Runs steps on an engine."""

    def __init__(
        self,
        engine: Engine,
        model: ReCoTModel,
        features: FeatureSource,
        context: DistributedContext,
    ) -> None:
        self._engine = engine
        self._model = model
        self._features = features
        self._context = context

    def run(
        self,
        batches: Sequence[MicroBatch],
        *,
        num_frames: int,
        lr: float,
        mask_ratio: float,
        with_view: bool,
    ) -> StepResult:
        """Run a step.

        Args:
            batches: of this process; as many in every process.
            num_frames: frames that count in the step, over all processes.
            lr: highest rate of the step.
            mask_ratio: share of tokens to mask.
            with_view: keep the first clip's mask.

        Raises:
            UserError: the memory does not suffice, or the gradient is not finite.
        """
        try:
            return self._run(
                batches, num_frames=num_frames, lr=lr, mask_ratio=mask_ratio, with_view=with_view
            )
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise UserError(
                f"out of memory with {len(batches[0].sample_ids)} samples at once "
                f"({str(error).splitlines()[0]}). Set a smaller batch.micro_samples (the losses "
                "stay the same), model.checkpoint_stages=true, or engine.offload=torch; the same "
                "command goes on from the last checkpoint."
            ) from error

    def _run(
        self,
        batches: Sequence[MicroBatch],
        *,
        num_frames: int,
        lr: float,
        mask_ratio: float,
        with_view: bool,
    ) -> StepResult:
        sums, bad, view, grad_norm = _Sums(), [], None, math.nan
        share = self._context.size * len(batches) / num_frames
        for batch in batches:
            output: ReCoTOutput = self._engine.forward(
                groups=batch.groups.to(self._context.device),
                features_FCHW=self._features(batch.frames_FHWC),
                mask_ratio=mask_ratio,
                noise_GTN=batch.noise_GTN.to(self._context.device, non_blocking=True),
                whole_G=batch.whole_G.to(self._context.device, non_blocking=True),
                with_diagnostics=True,
            )
            if with_view and view is None:
                view = _view(batch, output)
            if sums.add(output, batch.num_valid):
                loss = output.loss * (batch.num_valid * share)
            else:
                bad.append(batch.sample_ids)
                loss = self._no_loss()
            norm = self._engine.backward(loss, lr=lr)
            grad_norm = grad_norm if norm is None else norm
        if math.isnan(grad_norm):
            everyone = self._context.gather([i for batch in batches for i in batch.sample_ids])
            raise UserError(
                "the gradient is not finite; nothing is saved of this step. Its samples: "
                f"{', '.join(i for own in everyone for i in own)}. If they are in order, lower "
                "optim.lr in a new run; the last checkpoint is unharmed."
            )
        numbers = [float(len(bad)), *sums.numbers()]
        num_bad, frames, total, reconstruction, *pairs = self._context.sum(numbers)
        if num_bad:
            bad = [ids for own in self._context.gather(bad) for ids in own]
        return StepResult(
            lr=lr,
            mask_ratio=mask_ratio,
            loss=_ratio(total, frames),
            reconstruction_loss=_ratio(reconstruction, frames),
            grad_norm=grad_norm,
            num_frames=num_frames,
            diagnostics={
                name: _ratio(pairs[2 * i], pairs[2 * i + 1]) for i, name in enumerate(DIAGNOSTICS)
            },
            bad_batches=bad,
            view=view,
        )

    def _no_loss(self) -> Tensor:
        """Return a zero with a gradient of zeros: all processes must take part in the sums."""
        zeros = [(parameter * 0).sum() for parameter in self._model.parameters()]
        return torch.stack(zeros).sum()


def _view(batch: MicroBatch, output: ReCoTOutput) -> MaskView:
    of_first = (batch.groups.clip_G == 0).nonzero().flatten()
    valid_K = batch.groups.valid_GT[of_first].flatten()

    def shown(value_GTN: Tensor) -> Tensor:
        return value_GTN.detach().cpu()[of_first].flatten(0, 1)[valid_K]

    frame_K = batch.groups.frame_GT[of_first].flatten()[valid_K]
    return MaskView(
        frames_THWC=batch.frames_FHWC[frame_K],
        mask_TN=shown(output.masked.mask_BTN),
        scores_TN=shown(output.masked.scores_BTN),
    )


def _ratio(total: float, count: float) -> float:
    return total / count if count else math.nan


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in words  # torch's CPU allocator
        or "out of memory" in words.lower()
    )
