"""ReCoT training from start to end: build, go on from a checkpoint, step, save, sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vxp_data.settings_file import Loaded
from vxp_model.config import MAY_CHANGE, ReCoTRecipe
from vxp_model.data.dataset import ShardDataset
from vxp_model.data.loader import ShardLoader
from vxp_model.data.state import merge_states
from vxp_model.errors import StoppedError, UserError
from vxp_model.train.batches import (
    MicroBatch,
    accumulation,
    collate,
    epoch_samples,
    open_loader,
    sources_of,
    step_batches,
)
from vxp_model.train.build import model_config, new_model, uses_bf16
from vxp_model.train.checkpoints import (
    TrainState,
    clear_leftovers,
    find_checkpoint,
    require_same_run,
    restore_random_states,
    save_checkpoint,
)
from vxp_model.train.engine import Engine
from vxp_model.train.features import FeatureSource, build_tower
from vxp_model.train.guards import StopRequest, only_run
from vxp_model.train.journal import Journal
from vxp_model.train.mask_picture import draw_mask, write_picture
from vxp_model.train.outcome import MODEL_NAME, final_loss, write_model
from vxp_model.train.progress import StepProgress
from vxp_model.train.run_record import write_run_record
from vxp_model.train.schedule import lr_factor
from vxp_model.train.step import Stepper, StepResult
from vxp_model.train.world import World

Say = Callable[[str], None]

CHECKPOINTS: Final = "checkpoints"
PICTURES: Final = "masks"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run did."""

    out: Path
    model: Path
    steps: int
    final_loss: float
    """Mean reconstruction loss of the last 20 steps."""
    was_done: bool
    """Nothing was left to do."""


def train_recot(loaded: Loaded[ReCoTRecipe], world: World, say: Say) -> TrainResult:
    """Train, or go on from the newest checkpoint of the run directory.

    Every process calls it with the same settings.

    Args:
        loaded: the recipe.
        world: the processes.
        say: prints a line, called in the first process.

    Raises:
        UserError: something is missing or does not fit; the message says what.
        StoppedError: a signal came; the step under way was finished and saved.
    """
    out = Path(loaded.config.run.out)
    with only_run(out) if world.is_first else nullcontext(), ExitStack() as stack:
        training = Training(loaded, world, say)
        stack.callback(training.loader.close)
        training.resume()
        was_done = training.is_done() and (out / MODEL_NAME / "README.md").is_file()
        was_done = bool(world.first_says(was_done))
        if not was_done:
            with StopRequest() as request:
                training.run(request)
            training.finish()
        return TrainResult(
            out=out,
            model=out / MODEL_NAME,
            steps=training.state.step,
            final_loss=final_loss(out),
            was_done=was_done,
        )


class Training:
    """One run: its parts, and where it stands.

    Attributes:
        state: after the last step done.
        loader: of the shards.
    """

    def __init__(self, loaded: Loaded[ReCoTRecipe], world: World, say: Say) -> None:
        """Read the shards' indexes, load the tower, build the model.

        Raises:
            UserError: something is missing or does not fit.
        """
        recipe = loaded.config
        self._loaded, self._recipe, self._world = loaded, recipe, world
        self._say = say if world.is_first else _say_nothing
        self._out = Path(recipe.run.out)
        self._config = config = model_config(recipe.model)
        self._accumulation = accumulation(recipe.batch, world.size)
        num_samples = epoch_samples(recipe, ShardDataset(sources_of(recipe.data)))
        bf16 = uses_bf16(recipe.engine, world.device)
        tower = build_tower(
            config,
            recipe.tower,
            seed=recipe.run.seed,
            dtype=torch.bfloat16 if bf16 else torch.float32,
        )
        self._features = FeatureSource(tower, config, recipe.tower, world)
        model = new_model(config, seed=recipe.run.seed)
        model.checkpoint_stages = recipe.model.checkpoint_stages
        self._grouper = model.grouper
        self._engine = Engine(
            model,
            engine=recipe.engine,
            optim=recipe.optim,
            micro_samples=recipe.batch.micro_samples,
            accumulation=self._accumulation,
            bf16=bf16,
            world=world,
            rate_mults={"sgm.": recipe.optim.sgm_lr_mult},
        )
        self._stepper = Stepper(self._engine, model, self._features, world)
        self.loader: ShardLoader = open_loader(
            recipe, image_px=config.vision.image_px, num_samples=num_samples, world=world
        )
        self._steps_per_epoch = num_samples // recipe.batch.global_samples
        self.state = TrainState(
            step=0,
            total_steps=recipe.total_steps(num_samples),
            world_size=world.size,
            settings=recipe.model_dump(mode="json"),
            loader=self.loader.state_dict(),
            frozen_digest=self._features.digest,
            num_tokens=0,
        )
        torch.manual_seed(recipe.run.seed + world.rank)
        np.random.seed(recipe.run.seed % 2**32)  # noqa: NPY002 - libraries may use it

    def is_done(self) -> bool:
        """Tell whether all steps are done."""
        return self.state.step >= self.state.total_steps

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one.

        Raises:
            UserError: it is of other settings, data or weights, or none is whole.
        """
        root = self._out / CHECKPOINTS
        found = find_checkpoint(root) if self._world.is_first else None
        found = self._world.first_says(found)
        if self._world.is_first:
            clear_leftovers(root)
        for line in found.skipped:
            self._say(f"{line}: passed over")
        if found.folder is None:
            return
        saved: TrainState = found.state
        require_same_run(
            saved,
            self.state,
            may_change=MAY_CHANGE,
            where=str(self._out),
            zero_stage=self._recipe.engine.zero_stage,
        )
        self.loader.load_state_dict(saved.loader)
        self._engine.load(found.folder, num_steps=saved.step)
        restore_random_states(found.folder, self._world)
        self.state = replace(saved, settings=self.state.settings, world_size=self._world.size)
        self._say(f"going on after step {saved.step} of {saved.total_steps} ({found.folder})")

    def run(self, request: StopRequest) -> None:
        """Do the steps that are left.

        Raises:
            StoppedError: a signal came.
            UserError: see `Stepper.run`; too many batches without a loss; too many broken clips.
        """
        recipe, state = self._recipe, self.state
        self._engine.train()
        if not self._world.is_first:
            self._steps(request, None, None)
            return
        self._out.mkdir(parents=True, exist_ok=True)
        self._write_record({})
        journal = Journal(self._out, step=state.step)
        progress = StepProgress("ReCoT", total_steps=state.total_steps, step=state.step)
        self._say(
            f"{state.total_steps} steps of {recipe.batch.global_samples} samples "
            f"({self._steps_per_epoch} are an epoch), {self._world.size} x "
            f"{recipe.batch.micro_samples} at once, on {self._world.device.type}"
        )
        with closing(journal):
            try:
                self._steps(request, journal, progress)
            finally:
                progress.stop()

    def finish(self) -> None:
        """Write the model and its card."""
        weights = self._engine.full_weights()
        if self._world.is_first:
            model = write_model(
                weights, self._config, loaded=self._loaded, state=self.state, out=self._out
            )
            self._write_record({"final_loss": final_loss(self._out)})
            self._say(f"model written to {model}")
        self._world.barrier()

    def _steps(
        self, request: StopRequest, journal: Journal | None, progress: StepProgress | None
    ) -> None:
        run = self._recipe.run
        if self.is_done():
            return
        for batches, wait_s in _timed(self._micro_batches()):
            began_s = time.monotonic() - wait_s
            own = sum(batch.num_valid for batch in batches)
            num_frames, wants_stop = self._world.sum([own, float(request.came)])
            result = self._step(batches, num_frames=round(num_frames))
            entry = self._entry(result, wait_s=wait_s, took_s=time.monotonic() - began_s)
            if journal is not None and progress is not None:
                journal.write(entry)
                progress.update(
                    step=self.state.step,
                    loss=result.loss,
                    tokens_per_s=entry["tokens_per_s"],
                    data_wait_share=entry["data_wait_share"],
                )
            self._check_bad_batches(result)
            if self.is_done() or wants_stop or self.state.step % run.checkpoint_steps == 0:
                self._save()
            if wants_stop and not self.is_done():
                raise StoppedError(
                    f"stopped after step {self.state.step}, which is saved: the same command "
                    "goes on from there."
                )
            if self.is_done():
                return

    def _micro_batches(self) -> Iterator[list[MicroBatch]]:
        for step in step_batches(self.loader, self._accumulation):
            yield [
                collate(
                    batch.samples,
                    grouper=self._grouper,
                    num_tokens=self._config.grid**2,
                    seed=self._recipe.run.seed,
                )
                for batch in step
            ]

    def _step(self, batches: list[MicroBatch], *, num_frames: int) -> StepResult:
        """Do one step and move `state` to after it."""
        state = self.state
        every = self._recipe.run.picture_steps
        wants_view = every > 0 and (state.step == 0 or (state.step + 1) % every == 0)
        result = self._stepper.run(
            batches,
            num_frames=num_frames,
            lr=self._lr(),
            mask_ratio=self._mask_ratio(),
            with_view=wants_view and self._world.is_first,
        )
        if result.view is not None:
            picture = draw_mask(result.view.frames_THWC, result.view.mask_TN, result.view.scores_TN)
            write_picture(picture, self._out / PICTURES / f"step-{state.step + 1:08d}.png")
        self.state = replace(
            state,
            step=state.step + 1,
            num_tokens=state.num_tokens + num_frames * self._config.grid**2,
            bad_batches=[*state.bad_batches, *result.bad_batches],
        )
        return result

    def _lr(self) -> float:
        optim = self._recipe.optim
        return optim.lr * lr_factor(
            self.state.step,
            total_steps=self.state.total_steps,
            warmup=optim.warmup,
            final=optim.final_lr,
        )

    def _mask_ratio(self) -> float:
        return self._config.sgm.ratio_at(self.state.step / self.state.total_steps)

    def _entry(self, result: StepResult, *, wait_s: float, took_s: float) -> dict[str, Any]:
        """Compose the log's line about the step just done."""
        tokens = result.num_frames * self._config.grid**2
        entry = {
            "step": self.state.step,
            "epoch": self.state.step / self._steps_per_epoch,
            "loss": result.loss,
            "reconstruction_loss": result.reconstruction_loss,
            "grad_norm": result.grad_norm,
            "lr": result.lr,
            "mask_ratio": result.mask_ratio,
            "tokens": tokens,
            "tokens_per_s": tokens / took_s,
            "step_s": took_s,
            "data_wait_share": min(1.0, wait_s / took_s),
            **result.diagnostics,
        }
        if self._world.device.type == "cuda":
            entry["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return entry

    def _check_bad_batches(self, result: StepResult) -> None:
        if not result.bad_batches:
            return
        allowed = self._recipe.run.max_bad_batches
        ids = "; ".join(", ".join(batch) for batch in result.bad_batches)
        words = f"step {self.state.step}: the loss of these samples is not a number: {ids}"
        if len(self.state.bad_batches) > allowed:
            raise UserError(
                f"{words}. {len(self.state.bad_batches)} batches had none, {allowed} are allowed "
                "(run.max_bad_batches); the last checkpoint is unharmed. If the samples are in "
                "order, lower optim.lr in a new run."
            )
        self._say(f"{words}; they were left out")

    def _write_record(self, more: dict[str, Any]) -> None:
        more = {"world_size": self._world.size, **more}
        write_run_record(self._loaded, self._out, steps_done=self.state.step, more=more)

    def _save(self) -> None:
        states = self._world.gather(self.loader.state_dict())
        self.state = replace(self.state, loader=merge_states(states))
        save_checkpoint(
            self._out / CHECKPOINTS,
            self.state,
            self._engine.save,
            self._world,
            keep=self._recipe.run.keep_checkpoints,
        )


def _timed(steps: Iterator[list[MicroBatch]]) -> Iterator[tuple[list[MicroBatch], float]]:
    """Give each item with the seconds that were waited for it."""
    while True:
        began_s = time.monotonic()
        batches = next(steps)
        yield batches, time.monotonic() - began_s


def _say_nothing(line: str) -> None:
    del line
