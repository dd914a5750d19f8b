"""Training of Video-XL-Pro: its parts, its step, and what it writes at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from vxp_data.settings.file import Loaded
from vxp_model.models.flops import MllmFlops, peak_tflops
from vxp_model.models.video_xl_pro import PARTS
from vxp_model.settings.mllm import MLLM_MAY_CHANGE, MllmRecipe
from vxp_model.train.batches import open_loader, step_batches
from vxp_model.train.build import uses_bf16
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.engine import Engine
from vxp_model.train.metrics_log import LOG_NAME, MODEL_NAME, last_mean, read_log
from vxp_model.train.mixture import epoch_samples, mean_answers
from vxp_model.train.mllm.batches import MllmBatch, collate
from vxp_model.train.mllm.card import write_mllm_card
from vxp_model.train.mllm.lora import ADAPTER_NAME, merge_lora, write_adapter
from vxp_model.train.mllm.start import start_digest, start_model, trained_parts
from vxp_model.train.mllm.step import MllmStepper, MllmStepResult, trained_parameters
from vxp_model.train.mllm.text_limit import limit_of
from vxp_model.train.mllm.validation import Validator
from vxp_model.train.training import Say, Training, TrainResult, train


def train_mllm(loaded: Loaded[MllmRecipe], context: DistributedContext, say: Say) -> TrainResult:
    """Train, or go on; see `training.train`."""
    return train(MllmTraining, loaded, context, say)


class MllmTraining(Training[MllmRecipe, MllmBatch, MllmStepResult]):
    """Trains the projector alone, or everything that is not frozen."""

    MAY_CHANGE = MLLM_MAY_CHANGE

    def __init__(self, loaded: Loaded[MllmRecipe], context: DistributedContext, say: Say) -> None:
        """Build the model and open the shards.

        Raises:
            UserError: something is missing or does not fit.
        """
        super().__init__(loaded, context, say)
        recipe = loaded.config
        model, self._processor = start_model(recipe)
        self._model = model
        config: Any = model.config
        self._trained = trained_parts(recipe, config)
        look = partial(self._rows.find, reads_words=True, limit=limit_of(config, self._processor))
        parts = look("data.sources", recipe.data.sources)
        num_samples = epoch_samples(recipe, parts)
        self._answers = mean_answers(parts) if recipe.data.turns == "split" else None
        digest = start_digest(model)
        engine = Engine(
            model,
            engine=recipe.engine,
            optim=recipe.optim,
            micro_samples=recipe.batch.micro_samples,
            accumulation=self._accumulation,
            bf16=uses_bf16(recipe.engine, context.device),
            context=context,
            rate_mults={f"{PARTS[part]}.": mult for part, mult in recipe.optim.rate_mults.items()},
        )
        self._stepper = MllmStepper(
            engine,
            context,
            flops=MllmFlops.of(config, self._trained, with_lora=recipe.lora.rank > 0),
            frames_per_group=config.temporal_factor,
            packed=recipe.batch.packed,
            loss=recipe.loss,
        )
        loader = open_loader(
            recipe,
            parts,
            image_px=config.vision.image_px,
            num_samples=num_samples,
            context=context,
            length_window=recipe.data.length_window,
        )
        self._validator: Validator | None = None
        if recipe.validation.sources:
            self._validator = Validator(
                recipe,
                look("validation.sources", recipe.validation.sources),
                image_px=config.vision.image_px,
                processor=self._processor,
                context=context,
            )
        self._begin(engine=engine, loader=loader, num_samples=num_samples, frozen_digest=digest)

    def finish(self) -> None:
        """Write the model, its processor and its card."""
        weights = self.engine.full_weights()
        if self._context.is_first:
            folder = self._out / MODEL_NAME
            dtype = next(self.engine.module.parameters()).dtype
            # Of tied weights the language model's own name alone is among the parameters.
            state = {name: tensor.to(dtype) for name, tensor in weights.items()}
            if (rule := self._recipe.lora).rank:
                write_adapter(
                    self._out / ADAPTER_NAME, state, rule, prefix=f"{PARTS['language_model']}."
                )
                state = merge_lora(state, rule)
            self._model.save_pretrained(folder, state_dict=state)
            self._processor.save_pretrained(folder)
            loss = last_mean(self._out, self.LOSS)
            self._write_record({"final_loss": loss, "figures": self._figures()})
            write_mllm_card(
                folder / "README.md",
                loaded=self._loaded,
                trained=self._trained,
                temporal_factor=self._model.config.temporal_factor,
                random_parts=self._model.config.random_parts,
                steps=self.state.step,
                sequences=sum(entry["sequences"] for entry in read_log(self._out / LOG_NAME)),
                positions=self.state.num_tokens,
                loss=loss,
                token_loss=last_mean(self._out, "token_loss"),
                rows=self._rows.card_lines(self.state.loader["replaced"]),
                datasets=self.state.datasets,
            )
            self._say(f"model written to {folder}")
        self._context.barrier()

    def _figures(self) -> dict[str, Any]:
        """Return what `vxp-data` takes as --tokens-per-gpu-hour, from all steps but the first."""
        device = self._context.device
        is_gpu = device.type == "cuda"
        log = read_log(self._out / LOG_NAME)[1:]
        seconds = sum(entry["step_s"] for entry in log) * self._context.size
        tokens = sum(entry["visual_tokens"] for entry in log)
        return {
            "tokens_per_gpu_hour": tokens / seconds * 3600 if seconds and tokens else None,
            "device": torch.cuda.get_device_name(device) if is_gpu else "cpu",
        }

    def _peak_tflops(self) -> float | None:
        device, given = self._context.device, self._recipe.peak_tflops
        if given is not None or device.type != "cuda":
            return given
        return peak_tflops(torch.cuda.get_device_name(device))

    def _title(self) -> str:
        return self._recipe.stage

    def _announcement(self) -> str:
        recipe = self._recipe
        split = "" if self._answers is None else f", {self._answers:.2f} sequences each"
        return (
            f"{recipe.stage}: {', '.join(self._trained)} "
            f"({trained_parameters(self.engine.module):,} parameters); {self.state.total_steps} "
            f"steps of {recipe.batch.global_samples} samples{split} ({self._steps_per_epoch} are "
            f"an epoch), on {self._context.size} x {self._context.device.type}"
        )

    def micro_batches(self) -> Iterator[list[MllmBatch]]:
        """Return each step's micro-batches; see `Training.micro_batches`."""
        seed, turns = self._recipe.run.seed, self._recipe.data.turns
        for step in step_batches(self.loader, self._accumulation):
            yield [
                collate(batch.samples, processor=self._processor, seed=seed, turns=turns)
                for batch in step
            ]

    def _step(self, batches: list[MllmBatch]) -> MllmStepResult:
        result = self._stepper.run(batches, lr=self._lr())
        self.state = replace(
            self.state,
            step=self.state.step + 1,
            num_tokens=self.state.num_tokens + result.num_positions,
        )
        return result

    def _measures(self) -> dict[str, float]:
        step, total = self.state.step, self.state.total_steps
        if self._validator is None or not self._validator.is_due(step, total_steps=total):
            return {}
        measures = self._validator.run(self.engine)
        words = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
        self._say(f"held-out rows after step {step}: {words}")
        return measures

    def close(self) -> None:
        """Stop the loaders' workers."""
        super().close()
        if self._validator is not None:
            self._validator.loader.close()

    def _facts(self, result: MllmStepResult) -> dict[str, Any]:
        facts = {
            "loss": result.loss,
            "token_loss": result.token_loss,
            "label_accuracy": result.accuracy,
            "grad_norm": result.grad_norm,
            "lr": result.lr,
            "sequences": result.num_sequences,
            "labels": result.num_labels,
            "tokens": result.num_positions,
            "visual_tokens": result.num_visual,
            "flop": result.flop,
            **{f"token_loss/{task}": x for task, x in result.token_loss_by_task.items()},
            "sample_ids": result.sample_ids,
        }
        if result.num_visual:
            facts["kept_visual_share"] = result.num_kept / result.num_visual
        return facts
