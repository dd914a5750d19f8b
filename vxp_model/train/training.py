"""What every training does: go on from a checkpoint, step, log, save, stop when asked.

What a step is, what its line in the log says and what is written at the end, each kind says.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

import numpy as np
import torch

from vxp_data.settings.file import Loaded
from vxp_model.data.loader import ShardLoader
from vxp_model.data.state import merge_states
from vxp_model.errors import StoppedError
from vxp_model.settings.recot import TrainRecipe
from vxp_model.train.checkpoints import (
    TrainState,
    clear_leftovers,
    find_checkpoint,
    require_same_run,
    restore_random_states,
    save_checkpoint,
)
from vxp_model.train.datasets import Counted, added, as_record, read_shares
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.guards import StopRequest, only_run
from vxp_model.train.learnable import LearnableRows
from vxp_model.train.metrics_log import MODEL_NAME, MetricsLog, last_mean
from vxp_model.train.mixture import accumulation
from vxp_model.train.progress import StepProgress
from vxp_model.train.run_record import write_run_record
from vxp_model.train.schedule import lr_factor

Say = Callable[[str], None]
Recipe = TypeVar("Recipe", bound=TrainRecipe)
MicroBatch = TypeVar("MicroBatch", bound=Counted)
Result = TypeVar("Result")

CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run did."""

    out: Path
    model: Path
    steps: int
    final_loss: float
    """Mean of the last 20 steps; NaN where there is none."""
    was_done: bool
    """Nothing was left to do."""


class Training(ABC, Generic[Recipe, MicroBatch, Result]):
    """One run: its parts, and where it stands.

    Attributes:
        state: after the last step done.
        loader: of the shards.
        engine: steps the model.
    """

    MAY_CHANGE: ClassVar[frozenset[str]]
    """Settings with which the same command still goes on."""
    LOSS: ClassVar[str] = "loss"
    """What the log calls the loss that is summed up."""

    state: TrainState
    loader: ShardLoader
    engine: Engine

    def __init__(self, loaded: Loaded[Recipe], context: DistributedContext, say: Say) -> None:
        """Hold the settings; a kind of training builds its parts and then calls `_begin`.

        Raises:
            UserError: the step's samples cannot be dealt out evenly; `data.mixture` is none.
        """
        recipe = loaded.config
        read_shares(recipe.data.mixture)  # now, not at the end
        self._loaded, self._recipe, self._context = loaded, recipe, context
        self._say = say if context.is_first else _say_nothing
        self._out = Path(recipe.run.out)
        self._accumulation = accumulation(recipe.batch, context.size)
        self._rows = LearnableRows(context, max_share=recipe.data.max_bad_share, out=self._out)

    def _begin(
        self, *, engine: Engine, loader: ShardLoader, num_samples: int, frozen_digest: str
    ) -> None:
        """Hold the parts, ready for the first step.

        Args:
            engine: steps the model.
            loader: of the shards.
            num_samples: of an epoch, a multiple of the step's.
            frozen_digest: of weights that are given and must be the same when the run goes on.
        """
        recipe, context = self._recipe, self._context
        self.engine, self.loader = engine, loader
        self._steps_per_epoch = num_samples // recipe.batch.global_samples
        self.state = TrainState(
            step=0,
            total_steps=recipe.total_steps(num_samples),
            world_size=context.size,
            settings=self._settings(),
            loader=loader.state_dict(),
            frozen_digest=frozen_digest,
            num_tokens=0,
        )
        torch.manual_seed(recipe.run.seed + context.rank)
        np.random.seed(recipe.run.seed % 2**32)  # noqa: NPY002 - libraries may use it

    def _settings(self) -> dict[str, Any]:
        """Return the settings that a run which goes on must have again."""
        return self._recipe.model_dump(mode="json")

    @abstractmethod
    def _title(self) -> str:
        """Return the progress line's title."""

    @abstractmethod
    def _announcement(self) -> str:
        """Return what begins."""

    @abstractmethod
    def micro_batches(self) -> Iterator[list[MicroBatch]]:
        """Return each step's micro-batches, without end."""

    @abstractmethod
    def _step(self, batches: list[MicroBatch]) -> Result:
        """Run one step and move `state` to after it."""

    @abstractmethod
    def _facts(self, result: Result) -> dict[str, Any]:
        """Return what the log says of a step: `loss` and `tokens` at least; `flop`, for `mfu`."""

    @abstractmethod
    def finish(self) -> None:
        """Write the model and its card."""

    def _measures(self) -> dict[str, float]:
        """Validate on held-out data, where a validation is due after this step."""
        return {}

    def close(self) -> None:
        """Stop what runs beside the training."""
        self.loader.close()

    def _peak_tflops(self) -> float | None:
        """Return what a device could do in a second, in 1e12 operations; None: unknown."""
        return None

    def _check(self, result: Result) -> None:
        """Check a step that is in the log; raise where the run must not go on."""
        del result

    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.state.step >= self.state.total_steps

    def resume(self) -> None:
        """Resume from the newest whole checkpoint, if there is one.

        Raises:
            UserError: it is of other settings, data or weights, or none is whole.
        """
        root = self._out / CHECKPOINTS
        found = find_checkpoint(root) if self._context.is_first else None
        found = self._context.first_says(found)
        if self._context.is_first:
            clear_leftovers(root)
        for line in found.skipped:
            self._say(f"{line}: passed over")
        if found.folder is None:
            return
        saved: TrainState = found.state
        require_same_run(
            saved,
            self.state,
            may_change=self.MAY_CHANGE,
            where=str(self._out),
            zero_stage=self._recipe.engine.zero_stage,
        )
        self.loader.load_state_dict(saved.loader)
        self.engine.load(found.folder, num_steps=saved.step)
        restore_random_states(found.folder, self._context)
        self.state = replace(saved, settings=self.state.settings, world_size=self._context.size)
        self._say(f"going on after step {saved.step} of {saved.total_steps} ({found.folder})")

    def run(self, request: StopRequest) -> None:
        """Run the steps that are left.

        Raises:
            StoppedError: a signal came.
            UserError: a step failed in a way that its message says; too many broken clips.
        """
        state = self.state
        self.engine.train()
        if not self._context.is_first:
            self._steps(request, None, None)
            return
        self._out.mkdir(parents=True, exist_ok=True)
        self._write_record({})
        self._rows.write(state.loader["replaced"])
        for line in self._rows.lines():
            self._say(line)
        log = MetricsLog(self._out, step=state.step)
        progress = StepProgress(self._title(), total_steps=state.total_steps, step=state.step)
        self._say(self._announcement())
        with closing(log):
            try:
                self._steps(request, log, progress)
            finally:
                progress.stop()

    def _steps(
        self, request: StopRequest, log: MetricsLog | None, progress: StepProgress | None
    ) -> None:
        run = self._recipe.run
        if self.is_done():
            return
        for batches, wait_s in _timed(self.micro_batches()):
            began_s = time.monotonic() - wait_s
            (wants_stop,) = self._context.sum([float(request.came)])
            result = self._step(batches)
            datasets = self._count(batches)
            entry = self._entry(result, wait_s=wait_s, took_s=time.monotonic() - began_s)
            entry |= {"datasets": datasets, **self._measures()}
            if log is not None and progress is not None:
                log.write(entry)
                progress.update(
                    step=self.state.step,
                    loss=entry["loss"],
                    tokens_per_s=entry["tokens_per_s"],
                    data_wait_share=entry["data_wait_share"],
                )
            self._check(result)
            if self.is_done() or wants_stop or self.state.step % run.checkpoint_steps == 0:
                self._save()
            if self.is_done():
                return
            if wants_stop:
                raise StoppedError(
                    f"stopped after step {self.state.step}, which is saved: the same command "
                    "goes on from there."
                )

    def _count(self, batches: list[MicroBatch]) -> dict[str, dict[str, int]]:
        """Count the samples and tokens of each dataset; return those of this step."""
        own = added(batch.by_dataset for batch in batches)
        step = added(self._context.gather(own))
        self.state = replace(self.state, datasets=added([self.state.datasets, step]))
        return as_record(step)

    def _lr(self) -> float:
        optim = self._recipe.optim
        return optim.lr * lr_factor(
            self.state.step,
            total_steps=self.state.total_steps,
            warmup=optim.warmup,
            final=optim.final_lr,
        )

    def _entry(self, result: Result, *, wait_s: float, took_s: float) -> dict[str, Any]:
        """Compose the log's line about the step just done."""
        facts = self._facts(result)
        entry = {
            "step": self.state.step,
            "epoch": self.state.step / self._steps_per_epoch,
            **facts,
            "tokens_per_s": facts["tokens"] / took_s,
            "step_s": took_s,
            "data_wait_share": min(1.0, wait_s / took_s),
        }
        if "flop" in facts:
            peak = self._peak_tflops()
            tflops = facts["flop"] / took_s / self._context.size / 1e12
            entry |= {"tflops": tflops, "mfu": None if peak is None else tflops / peak}
        if self._context.device.type == "cuda":
            entry["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return entry

    def _write_record(self, more: dict[str, Any]) -> None:
        rows = self._rows.record(self.state.loader["replaced"])
        more = {
            "world_size": self._context.size,
            "rows": rows,
            "datasets": as_record(self.state.datasets),
            **more,
        }
        write_run_record(self._loaded, self._out, steps_done=self.state.step, more=more)

    def _save(self) -> None:
        states = self._context.gather(self.loader.state_dict())
        num_before = len(self.state.loader["replaced"])
        self.state = replace(self.state, loader=merge_states(states))
        if self._context.is_first and len(self.state.loader["replaced"]) > num_before:
            self._rows.write(self.state.loader["replaced"])
        save_checkpoint(
            self._out / CHECKPOINTS,
            self.state,
            self.engine.save,
            self._context,
            keep=self._recipe.run.keep_checkpoints,
        )


def train(
    kind: Callable[[Loaded[Recipe], DistributedContext, Say], Training[Recipe, Any, Any]],
    loaded: Loaded[Recipe],
    context: DistributedContext,
    say: Say,
) -> TrainResult:
    """Train, or go on from the newest checkpoint of the run directory.

    Every process calls it with the same settings.

    Args:
        kind: of the training: makes it.
        loaded: the recipe.
        context: the processes.
        say: prints a line, called in the first process.

    Raises:
        UserError: something is missing or does not fit; the message says what.
        StoppedError: a signal came; the step under way was finished and saved.
    """
    out = Path(loaded.config.run.out)
    with only_run(out) if context.is_first else nullcontext(), ExitStack() as stack:
        training = kind(loaded, context, say)
        stack.callback(training.close)
        training.resume()
        was_done = training.is_done() and (out / MODEL_NAME / "README.md").is_file()
        was_done = bool(context.first_says(was_done))
        if not was_done:
            with StopRequest() as request:
                training.run(request)
            training.finish()
        return TrainResult(
            out=out,
            model=out / MODEL_NAME,
            steps=training.state.step,
            final_loss=last_mean(out, training.LOSS),
            was_done=was_done,
        )


def _timed(steps: Iterator[list[MicroBatch]]) -> Iterator[tuple[list[MicroBatch], float]]:
    """Return each item with the seconds that were waited for it."""
    while True:
        began_s = time.monotonic()
        batches = next(steps)
        yield batches, time.monotonic() - began_s


def _say_nothing(line: str) -> None:
    del line
