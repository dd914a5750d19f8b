"""Training of Video-XL-Pro from start to end: build, go on from a checkpoint, step, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vxp_data.settings_file import Loaded
from vxp_model.data.dataset import ShardDataset, Source
from vxp_model.data.frames import FrameOptions
from vxp_model.data.loader import ShardLoader
from vxp_model.data.order import BatchRule, OrderRule, part_counts
from vxp_model.data.state import merge_states
from vxp_model.errors import StoppedError
from vxp_model.mllm_settings import MLLM_MAY_CHANGE, MllmRecipe
from vxp_model.models.video_xl_pro import PARTS
from vxp_model.train.batches import accumulation, step_batches
from vxp_model.train.build import uses_bf16
from vxp_model.train.checkpoints import (
    TrainState,
    clear_leftovers,
    find_checkpoint,
    require_same_run,
    restore_random_states,
    save_checkpoint,
)
from vxp_model.train.engine import Engine
from vxp_model.train.guards import StopRequest, only_run
from vxp_model.train.journal import LOG_NAME, Journal, read_log
from vxp_model.train.mllm_batches import MllmBatch, collate
from vxp_model.train.mllm_card import write_mllm_card
from vxp_model.train.mllm_start import start_digest, start_model
from vxp_model.train.mllm_step import MllmStepper, MllmStepResult, trained_parameters
from vxp_model.train.progress import StepProgress
from vxp_model.train.run_record import write_run_record
from vxp_model.train.schedule import lr_factor
from vxp_model.train.world import World

Say = Callable[[str], None]

CHECKPOINTS: Final = "checkpoints"
MODEL_NAME: Final = "model"
_LAST_STEPS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MllmResult:
    """What a run did."""

    out: Path
    model: Path
    steps: int
    final_loss: float
    """Mean of the last 20 steps."""
    was_done: bool
    """Nothing was left to do."""


def train_mllm(loaded: Loaded[MllmRecipe], world: World, say: Say) -> MllmResult:
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
        training = MllmTraining(loaded, world, say)
        stack.callback(training.loader.close)
        training.resume()
        was_done = training.is_done() and (out / MODEL_NAME / "README.md").is_file()
        was_done = bool(world.first_says(was_done))
        if not was_done:
            with StopRequest() as request:
                training.run(request)
            training.finish()
        return MllmResult(
            out=out,
            model=out / MODEL_NAME,
            steps=training.state.step,
            final_loss=_final_loss(out),
            was_done=was_done,
        )


class MllmTraining:
    """One run: its parts, and where it stands.

    Attributes:
        state: after the last step done.
        loader: of the shards.
    """

    def __init__(self, loaded: Loaded[MllmRecipe], world: World, say: Say) -> None:
        """Build the model and open the shards.

        Raises:
            UserError: something is missing or does not fit.
        """
        recipe = loaded.config
        self._loaded, self._recipe, self._world = loaded, recipe, world
        self._say = say if world.is_first else _say_nothing
        self._out = Path(recipe.run.out)
        self._accumulation = accumulation(recipe.batch, world.size)
        sources = [
            Source(uri=source.uri, weight=source.weight, kinds=tuple(source.kinds))
            for source in recipe.data.sources
        ]
        num_samples = _epoch_samples(recipe, ShardDataset(sources))
        model, self._processor = start_model(recipe)
        self._model = model
        digest = start_digest(model)
        self._engine = Engine(
            model,
            engine=recipe.engine,
            optim=recipe.optim,
            micro_samples=recipe.batch.micro_samples,
            accumulation=self._accumulation,
            bf16=uses_bf16(recipe.engine, world.device),
            world=world,
            rate_mults={f"{PARTS[part]}.": mult for part, mult in recipe.optim.rate_mults.items()},
        )
        self._stepper = MllmStepper(self._engine, world)
        self.loader = _open_loader(
            recipe, sources, image_px=model.config.vision.image_px, samples=num_samples, world=world
        )
        self._steps_per_epoch = num_samples // recipe.batch.global_samples
        self.state = TrainState(
            step=0,
            total_steps=recipe.total_steps(num_samples),
            world_size=world.size,
            settings=recipe.model_dump(mode="json"),
            loader=self.loader.state_dict(),
            frozen_digest=digest,
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
            may_change=MLLM_MAY_CHANGE,
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
            UserError: see `MllmStepper.run`; too many broken clips.
        """
        recipe, state = self._recipe, self.state
        self._engine.train()
        if not self._world.is_first:
            self._steps(request, None, None)
            return
        self._out.mkdir(parents=True, exist_ok=True)
        write_run_record(self._loaded, self._out, steps_done=state.step, more={})
        journal = Journal(self._out, step=state.step)
        progress = StepProgress(recipe.stage, total_steps=state.total_steps, step=state.step)
        self._say(
            f"{recipe.stage}: {', '.join(recipe.trained_parts())} "
            f"({trained_parameters(self._engine.module):,} parameters); {state.total_steps} steps "
            f"of {recipe.batch.global_samples} samples ({self._steps_per_epoch} are an epoch), on "
            f"{self._world.size} x {self._world.device.type}"
        )
        with closing(journal):
            try:
                self._steps(request, journal, progress)
            finally:
                progress.stop()

    def finish(self) -> None:
        """Write the model, its processor and its card."""
        weights = self._engine.full_weights()
        if self._world.is_first:
            folder = self._out / MODEL_NAME
            dtype = next(self._engine.module.parameters()).dtype
            # Of tied weights the language model's own name alone is among the parameters.
            state = {name: tensor.to(dtype) for name, tensor in weights.items()}
            self._model.save_pretrained(folder, state_dict=state)
            self._processor.save_pretrained(folder)
            write_run_record(
                self._loaded,
                self._out,
                steps_done=self.state.step,
                more={"final_loss": _final_loss(self._out)},
            )
            write_mllm_card(
                folder / "README.md",
                loaded=self._loaded,
                random_parts=self._model.config.random_parts,
                steps=self.state.step,
                positions=self.state.num_tokens,
                loss=_final_loss(self._out),
            )
            self._say(f"model written to {folder}")
        self._world.barrier()

    def _steps(
        self, request: StopRequest, journal: Journal | None, progress: StepProgress | None
    ) -> None:
        run = self._recipe.run
        if self.is_done():
            return
        steps = step_batches(self.loader, self._accumulation)
        while not self.is_done():
            began_s = time.monotonic()
            batches = [self._collate(batch.samples) for batch in next(steps)]
            wait_s = time.monotonic() - began_s
            (wants_stop,) = self._world.sum([float(request.came)])
            result = self._stepper.run(batches, lr=self._lr())
            self.state = replace(
                self.state,
                step=self.state.step + 1,
                num_tokens=self.state.num_tokens + result.num_positions,
            )
            entry = self._entry(result, wait_s=wait_s, took_s=time.monotonic() - began_s)
            if journal is not None and progress is not None:
                journal.write(entry)
                progress.update(
                    step=self.state.step,
                    loss=result.loss,
                    tokens_per_s=entry["tokens_per_s"],
                    data_wait_share=entry["data_wait_share"],
                )
            if self.is_done() or wants_stop or self.state.step % run.checkpoint_steps == 0:
                self._save()
            if wants_stop and not self.is_done():
                raise StoppedError(
                    f"stopped after step {self.state.step}, which is saved: the same command "
                    "goes on from there."
                )

    def _collate(self, samples: Any) -> MllmBatch:
        return collate(samples, processor=self._processor, seed=self._recipe.run.seed)

    def _lr(self) -> float:
        optim = self._recipe.optim
        return optim.lr * lr_factor(
            self.state.step,
            total_steps=self.state.total_steps,
            warmup=optim.warmup,
            final=optim.final_lr,
        )

    def _entry(self, result: MllmStepResult, *, wait_s: float, took_s: float) -> dict[str, Any]:
        """Compose the log's line about the step just done."""
        entry = {
            "step": self.state.step,
            "epoch": self.state.step / self._steps_per_epoch,
            "loss": result.loss,
            "label_accuracy": result.accuracy,
            "grad_norm": result.grad_norm,
            "lr": result.lr,
            "labels": result.num_labels,
            "tokens": result.num_positions,
            "tokens_per_s": result.num_positions / took_s,
            "step_s": took_s,
            "data_wait_share": min(1.0, wait_s / took_s),
            **{f"loss/{task}": loss for task, loss in result.loss_by_task.items()},
            "sample_ids": result.sample_ids,
        }
        if result.num_visual:
            entry["kept_visual_share"] = result.num_kept / result.num_visual
        if self._world.device.type == "cuda":
            entry["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return entry

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


def _epoch_samples(recipe: MllmRecipe, dataset: ShardDataset) -> int:
    """Give the samples of an epoch: every sample at least once, and no step cut short."""
    sizes = [len(rows.row_N) for rows in dataset.rows]
    weights = [rows.source.weight for rows in dataset.rows]
    step = recipe.batch.global_samples
    return -(-sum(part_counts(sizes, weights, None)) // step) * step


def _open_loader(
    recipe: MllmRecipe, sources: list[Source], *, image_px: int, samples: int, world: World
) -> ShardLoader:
    data = recipe.data
    return ShardLoader(
        sources,
        batch=BatchRule(max_samples=recipe.batch.micro_samples),
        order=OrderRule(
            seed=recipe.run.seed,
            epoch_samples=samples,
            length_window=data.length_window,
        ),
        frames=FrameOptions(
            frame_px=image_px,
            decoder=data.decoder,
            fallback=data.fallback,
            timeout_s=data.timeout_s,
            memory_mib=data.memory_mib,
        ),
        rank=world.rank,
        world_size=world.size,
        num_workers=data.workers,
        prefetch_batches=data.prefetch_batches,
        pin_memory=world.device.type == "cuda",
        max_broken=data.max_broken,
        start_method="forkserver" if data.workers else None,  # a process with threads must not fork
    )


def _final_loss(out: Path) -> float:
    losses: list[float] = [entry["loss"] for entry in read_log(out / LOG_NAME)][-_LAST_STEPS:]
    return sum(losses) / max(len(losses), 1)


def _say_nothing(line: str) -> None:
    del line
