"""Training steps on a device: seconds, loss and memory, beside what `vxp-model estimate` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import torch

from support.gpu_checks.common import GIB, beside_estimate, clear_device, random_frames

if TYPE_CHECKING:
    from vxp_model.data.sample import TrainSample
    from vxp_model.settings.mllm import MllmRecipe
    from vxp_model.settings.recot import ReCoTRecipe
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.estimate import SampleShape

_UNUSED: Final = {"sources": [{"uri": "drawn", "kinds": ["video"], "weight": 1}]}
"""A recipe must name shards; here samples are drawn instead."""


def recot_recipe(preset: str, **sections: Any) -> ReCoTRecipe:
    """Return settings of a ReCoT training, as its recipe has them but for the sections given."""
    from vxp_model.settings.recot import ReCoTRecipe

    tree = {
        "model": {"preset": preset},
        "tower": {"init": "random"},
        "data": {**_UNUSED, "window_frames": 16},
        "batch": {"global_samples": 10, "micro_samples": 10},
        "run": {"out": "unused", "steps": 1},
    }
    return ReCoTRecipe.model_validate(tree | sections)


def mllm_recipe(preset: str, **sections: Any) -> MllmRecipe:
    """Return settings of a fine-tuning, as its recipe has them but for the sections given."""
    from vxp_model.settings.mllm import MllmRecipe

    tree = {
        "stage": "sft",
        "start": {"init": "random", "preset": preset},
        "data": _UNUSED,
        "batch": {"global_samples": 1, "micro_samples": 1},
        "checkpoint_layers": True,
        "run": {"out": "unused", "steps": 1},
    }
    return MllmRecipe.model_validate(tree | sections)


def draw_sample(position: int, *, num_frames: int, px: int, text: str, answer: str) -> TrainSample:
    """Draw a video with a question and an answer."""
    from vxp_data.conversation import Part, Role, Turn
    from vxp_model.data.sample import SampleMedium, TrainSample

    return TrainSample(
        sample_id=f"drawn-{position}",
        dataset="drawn",
        task="caption",
        kind="video",
        key=f"drawn-{position}",
        source=0,
        epoch=0,
        position=position,
        frames_THWC=random_frames(num_frames, px, seed=position),
        time_s_T=torch.arange(num_frames, dtype=torch.float64),
        fps=1.0,
        media=(SampleMedium(kind="video", num_frames=num_frames, fps=1.0),),
        num_inexact=0,
        conversation=(
            Turn(Role.USER, (Part("video"), Part("text", text))),
            Turn.of_text(Role.ASSISTANT, answer),
        ),
        annotation="",
    )


def recot_steps(recipe: ReCoTRecipe, context: DistributedContext, *, steps: int) -> dict[str, Any]:
    """Run steps of a ReCoT training on drawn windows."""
    from vxp_model.train.batches import collate
    from vxp_model.train.build import new_model, uses_bf16
    from vxp_model.train.engine import Engine
    from vxp_model.train.model_config import model_config
    from vxp_model.train.recot.estimate import estimate_recot
    from vxp_model.train.recot.features import FeatureSource, build_tower
    from vxp_model.train.recot.step import Stepper

    config, bf16 = model_config(recipe.model), uses_bf16(recipe.engine, context.device)
    dtype = torch.bfloat16 if bf16 else torch.float32
    tower = build_tower(config, recipe.tower, seed=0, dtype=dtype)
    model = new_model(config, seed=0)
    engine = Engine(
        model,
        engine=recipe.engine,
        optim=recipe.optim,
        micro_samples=recipe.batch.micro_samples,
        accumulation=1,
        bf16=bf16,
        context=context,
        rate_mults={"sgm.": recipe.optim.sgm_lr_mult},
    )
    engine.train()
    features = FeatureSource(tower, config, recipe.tower, context)
    stepper = Stepper(engine, model, features, context)
    window, px = recipe.data.window_frames, config.vision.image_px
    samples = [
        draw_sample(i, num_frames=window, px=px, text="", answer="")
        for i in range(recipe.batch.micro_samples)
    ]
    batch = collate(
        samples, grouper=model.grouper, num_tokens=config.grid**2, seed=0, unmasked_share=0
    )

    def run() -> float:
        return stepper.run(
            [batch],
            num_frames=batch.num_valid,
            lr=recipe.optim.lr,
            mask_ratio=config.sgm.ratio,
            with_view=False,
        ).loss

    num_samples = recipe.batch.global_samples
    computed = estimate_recot(recipe, gpu="h200", utilisation=0.4, num_samples=num_samples)
    return {
        **_timed(run, context.device, steps=steps),
        **_memory(context.device, sum(computed.memory_bytes.values())),
        "host_estimate_gib": round(computed.host_bytes / GIB, 2),
    }


def sft_steps(
    recipe: MllmRecipe, context: DistributedContext, shape: SampleShape, *, steps: int
) -> dict[str, Any]:
    """Run steps of a fine-tuning on one drawn sample."""
    from vxp_model.models.byte_tokenizer import VISUAL_ID, byte_tokenizer
    from vxp_model.models.flops import MllmFlops
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.train.build import uses_bf16
    from vxp_model.train.engine import Engine
    from vxp_model.train.mllm.batches import collate
    from vxp_model.train.mllm.estimate import estimate_mllm
    from vxp_model.train.mllm.start import prepare_model
    from vxp_model.train.mllm.step import MllmStepper

    config: Any = video_xl_pro_preset(recipe.start.preset)
    config.visual_token_id = VISUAL_ID
    torch.manual_seed(0)
    with torch.device(context.device):  # drawn there: on a CPU it would take a minute
        model = VideoXLProForConditionalGeneration(config)
    prepare_model(model, recipe)
    engine = Engine(
        model,
        engine=recipe.engine,
        optim=recipe.optim,
        micro_samples=1,
        accumulation=1,
        bf16=uses_bf16(recipe.engine, context.device),
        context=context,
    )
    engine.train()
    stepper = MllmStepper(
        engine,
        context,
        flops=MllmFlops.of(config, recipe.trained_parts()),
        group_tokens=config.group_tokens,
        packed=recipe.batch.packed,
        loss=recipe.loss,
    )
    processor = VideoXLProProcessor.for_model(
        config, byte_tokenizer(), time_format=TEN_BYTES, system=""
    )
    sample = draw_sample(
        0,
        num_frames=shape.num_frames,
        px=config.vision.image_px,
        text="?" * (shape.num_text - shape.num_labels),
        answer="!" * shape.num_labels,
    )
    batch = collate([sample], processor=processor, seed=0)
    computed = estimate_mllm(recipe, shape)
    return {
        **_timed(
            lambda: stepper.run([batch], lr=recipe.optim.lr).loss, context.device, steps=steps
        ),
        **_memory(context.device, computed.total_bytes),
        "positions": batch.num_positions,
        "positions_estimated": computed.num_positions,
        "host_estimate_gib": round(computed.host_bytes / GIB, 2),
    }


TEN_BYTES: Final = "at{:06.1f}s:"
"""A time text as long in bytes as Qwen's is in tokens: the tokenizer here has one for each byte."""


def _timed(run: Callable[[], float], device: torch.device, *, steps: int) -> dict[str, Any]:
    """Run steps, the peak being that of the steps alone; the last one's seconds count."""
    from device_rates import wait_for

    clear_device(device)
    losses, took_s = [], 0.0
    for _ in range(steps):
        began_s = time.perf_counter()
        losses.append(run())
        wait_for(device)
        took_s = time.perf_counter() - began_s
    return {"steps": steps, "losses": losses, "last_step_s": round(took_s, 3)}


def _memory(device: torch.device, estimate_bytes: int) -> dict[str, Any]:
    from device_rates import peak_bytes

    return beside_estimate(peak_bytes(device), estimate_bytes)
