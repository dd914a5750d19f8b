"""ReCoT training: its parts, its step, and what it writes at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import torch

from vxp_data.settings.file import Loaded
from vxp_model.data.sources import Rows
from vxp_model.errors import UserError
from vxp_model.settings.recot import RECOT_MAY_CHANGE, ReCoTRecipe
from vxp_model.train.batches import MicroBatch, collate, open_loader, recot_window, step_batches
from vxp_model.train.build import new_model, uses_bf16
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.metrics_log import last_mean
from vxp_model.train.mixture import epoch_samples
from vxp_model.train.model_config import model_config
from vxp_model.train.recot.features import FeatureSource, build_tower
from vxp_model.train.recot.mask_image import draw_mask, write_image
from vxp_model.train.recot.outcome import write_model
from vxp_model.train.recot.step import Stepper, StepResult
from vxp_model.train.training import Say, Training, TrainResult, train

IMAGES: Final = "masks"


def train_recot(loaded: Loaded[ReCoTRecipe], context: DistributedContext, say: Say) -> TrainResult:
    """Train, or go on; see `training.train`."""
    return train(ReCoTTraining, loaded, context, say)


class ReCoTTraining(Training[ReCoTRecipe, MicroBatch, StepResult]):
    """Trains the compressor by reconstruction, behind a frozen tower.

    Attributes:
        config: of the model.
        features: the tower, and the cache before it.
    """

    MAY_CHANGE = RECOT_MAY_CHANGE
    LOSS = "reconstruction_loss"

    def __init__(self, loaded: Loaded[ReCoTRecipe], context: DistributedContext, say: Say) -> None:
        """Read the shards' indexes, load the tower, build the model.

        Raises:
            UserError: something is missing or does not fit.
        """
        super().__init__(loaded, context, say)
        recipe = loaded.config
        self.config = config = model_config(recipe.model)
        parts = self._rows.find("data.sources", recipe.data.sources, reads_words=False)
        self._say_unread(parts)
        num_samples = epoch_samples(recipe, parts)
        bf16 = uses_bf16(recipe.engine, context.device)
        tower = build_tower(
            config,
            recipe.tower,
            seed=recipe.run.seed,
            dtype=torch.bfloat16 if bf16 else torch.float32,
        )
        self.features = FeatureSource(tower, config, recipe.tower, context)
        model = new_model(config, seed=recipe.run.seed)
        model.checkpoint_stages = recipe.model.checkpoint_stages
        self._grouper = model.grouper
        engine = Engine(
            model,
            engine=recipe.engine,
            optim=recipe.optim,
            micro_samples=recipe.batch.micro_samples,
            accumulation=self._accumulation,
            bf16=bf16,
            context=context,
            rate_mults={"sgm.": recipe.optim.sgm_lr_mult},
        )
        self._stepper = Stepper(engine, model, self.features, context)
        loader = open_loader(
            recipe,
            parts,
            image_px=config.vision.image_px,
            num_samples=num_samples,
            context=context,
            window=recot_window(recipe),
        )
        self._begin(
            engine=engine,
            loader=loader,
            num_samples=num_samples,
            frozen_digest=self.features.digest,
        )

    def _settings(self) -> dict[str, Any]:
        """Return the settings, those of the preset too, which a later version may change."""
        settings, config = super()._settings(), self.config
        model, sgm = settings["model"], settings["model"]["sgm"]
        sgm |= {name: getattr(config.sgm, name) for name in sgm}
        of_all = ("target_norm", "masked_weight", "visible_weight")
        model |= {name: getattr(config, name) for name in of_all}
        model["temporal_factor"] = config.dts.temporal_factor
        return settings

    def finish(self) -> None:
        """Write the model and its card."""
        weights = self.engine.full_weights()
        if self._context.is_first:
            model = write_model(
                weights,
                self.config,
                loaded=self._loaded,
                state=self.state,
                rows=list(self._rows.card_lines([])),
                out=self._out,
            )
            self._write_record({"final_loss": last_mean(self._out, self.LOSS)})
            self._say(f"model written to {model}")
        self._context.barrier()

    def _title(self) -> str:
        return "ReCoT"

    def _announcement(self) -> str:
        batch = self._recipe.batch
        return (
            f"{self.state.total_steps} steps of {batch.global_samples} samples "
            f"({self._steps_per_epoch} are an epoch), {self._context.size} x "
            f"{batch.micro_samples} at once, on {self._context.device.type}"
        )

    def _say_unread(self, parts: Sequence[Rows]) -> None:
        """Say how many rows have several media, which are not read here."""
        tables = {rows.source.uri: rows.table for rows in parts}
        if num_mixed := sum(table.num_mixed() for table in tables.values()):
            self._say(
                f"{num_mixed} rows have several media and are not read: ReCoT takes rows of one"
            )

    def micro_batches(self) -> Iterator[list[MicroBatch]]:
        """Return each step's micro-batches; see `Training.micro_batches`."""
        for step in step_batches(self.loader, self._accumulation):
            yield [
                collate(
                    batch.samples,
                    grouper=self._grouper,
                    num_tokens=self.config.grid**2,
                    seed=self._recipe.run.seed,
                    unmasked_share=self.config.sgm.unmasked_share,
                )
                for batch in step
            ]

    def _step(self, batches: list[MicroBatch]) -> StepResult:
        """Run one step and move `state` to after it."""
        state = self.state
        (frames,) = self._context.sum([sum(batch.num_valid for batch in batches)])
        num_frames = round(frames)
        every = self._recipe.run.picture_steps
        wants_view = every > 0 and (state.step == 0 or (state.step + 1) % every == 0)
        result = self._stepper.run(
            batches,
            num_frames=num_frames,
            lr=self._lr(),
            mask_ratio=self._mask_ratio(),
            with_view=wants_view and self._context.is_first,
        )
        if result.view is not None:
            image = draw_mask(result.view.frames_THWC, result.view.mask_TN, result.view.scores_TN)
            write_image(image, self._out / IMAGES / f"step-{state.step + 1:08d}.png")
        self.state = replace(
            state,
            step=state.step + 1,
            num_tokens=state.num_tokens + num_frames * self.config.grid**2,
            bad_batches=[*state.bad_batches, *result.bad_batches],
        )
        return result

    def _mask_ratio(self) -> float:
        return self.config.sgm.ratio_at(self.state.step / self.state.total_steps)

    def _facts(self, result: StepResult) -> dict[str, Any]:
        return {
            "loss": result.loss,
            "reconstruction_loss": result.reconstruction_loss,
            "grad_norm": result.grad_norm,
            "lr": result.lr,
            "mask_ratio": result.mask_ratio,
            "tokens": result.num_frames * self.config.grid**2,
            **result.diagnostics,
        }

    def _check(self, result: StepResult) -> None:
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
