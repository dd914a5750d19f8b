"""How well the model does on rows that it is not trained on, while it is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import torch
from torch.nn import functional

from vxp_data.conversation import Role
from vxp_model.data.loader import ShardLoader
from vxp_model.data.sample import TrainSample
from vxp_model.data.sources import Rows
from vxp_model.models.output import VideoXLProOutput
from vxp_model.models.processor import VideoXLProProcessor
from vxp_model.settings.mllm import MllmRecipe
from vxp_model.train.batches import open_loader
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.mllm.batches import collate

_OPTION: Final = re.compile(r"\(?[A-J]\)?([.):].*)?", re.DOTALL)

CHOICE: Final = "multiple_choice_accuracy"


class Validator:
    """Runs the model over held-out rows: the same ones, with the same frames, every time."""

    def __init__(
        self,
        recipe: MllmRecipe,
        rows: Sequence[Rows],
        *,
        image_px: int,
        processor: VideoXLProProcessor,
        context: DistributedContext,
    ) -> None:
        """Open the held-out shards.

        Args:
            recipe: of the training.
            rows: that are held out.
            image_px: side of the tower's input.
            processor: of the model.
            context: the processes.
        """
        there = sum(len(one.row_N) for one in rows)
        self._recipe, self._processor, self._context = recipe, processor, context
        self.loader: ShardLoader = open_loader(
            recipe,
            rows,
            image_px=image_px,
            num_samples=min(there, recipe.validation.samples or there),
            context=context,
        )
        self._beginning = self.loader.state_dict()

    def is_due(self, step: int, *, total_steps: int) -> bool:
        """Whether this step is one after which to validate: every so many, and the last."""
        return step % self._recipe.validation.steps == 0 or step == total_steps

    @torch.no_grad()
    def run(self, engine: Engine) -> dict[str, float]:
        """Measure all rows; every process calls it. No random number is drawn.

        Args:
            engine: in training mode before and after.

        Returns:
            measures: `val/loss`, the mean over label tokens; `val/answers`, the share of samples
            whose answers are, word for word, what the model would say; both by task as well
            (`val/loss/caption`); `val/multiple_choice_accuracy`, that share among samples whose
            answers are options.
        """
        self.loader.load_state_dict(self._beginning)
        sums: dict[str, list[float]] = {}
        turns = self._recipe.data.turns
        engine.evaluate()
        for batch in self.loader:
            inputs = collate(batch.samples, processor=self._processor, seed=0, turns=turns)
            tensors = {name: x.to(self._context.device) for name, x in inputs.inputs.items()}
            output: VideoXLProOutput = engine.forward(**tensors)
            add_sample_measures(output, batch.samples, inputs.num_sequences, sums)
        engine.train()
        total: dict[str, list[float]] = {}
        for own in self._context.gather(sums):
            for name, (value, number) in own.items():
                _add(total, name, value, number)
        return {f"val/{name}": total[name][0] / total[name][1] for name in sorted(total)}


def is_choice(sample: TrainSample) -> bool:
    """Whether all answers are options: a letter alone, or a letter, a mark and words."""
    answers = [turn.text.strip() for turn in sample.conversation if turn.role is Role.ASSISTANT]
    return all(_OPTION.fullmatch(answer) for answer in answers)


def add_sample_measures(
    output: VideoXLProOutput,
    samples: Sequence[TrainSample],
    num_sequences: Sequence[int],
    sums: dict[str, list[float]],
) -> None:
    """Add each sample's losses and whether its answers are the likeliest, with how many.

    Args:
        output: of the samples, with labels.
        samples: of one batch; those without a label count for nothing.
        num_sequences: of each of them.
        sums: measure -> (sum, of how many), added to.
    """
    logits, label_ids, counts = output.logits, output.label_ids, output.num_labels_B
    assert logits is not None
    assert label_ids is not None
    assert counts is not None
    loss_K = functional.cross_entropy(logits, label_ids, reduction="none")
    right_K = logits.argmax(-1) == label_ids
    start, row = 0, 0
    for sample, num_rows in zip(samples, num_sequences, strict=True):
        count = int(counts[row : row + num_rows].sum())
        row += num_rows
        own = slice(start, start + count)
        start += count
        if not count:
            continue  # padding
        loss, right = float(loss_K[own].sum()), float(right_K[own].all())
        for name in ("loss", f"loss/{sample.task}"):
            _add(sums, name, loss, count)
        for name in ("answers", f"answers/{sample.task}", *([CHOICE] * is_choice(sample))):
            _add(sums, name, right, 1)


def _add(sums: dict[str, list[float]], name: str, value: float, number: float) -> None:
    pair = sums.setdefault(name, [0.0, 0.0])
    pair[0] += value
    pair[1] += number
