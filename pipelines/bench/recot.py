"""Measure a ReCoT training: where a step's time goes, memory, and on a GPU the achieved rate.

    python pipelines/bench/recot.py [RECIPE] [--set KEY=VALUE] [--steps 20 --warmup 5 --compile]

RECIPE is one of `vxp-model recot`; the default is the smoke run's, the tiny preset on a CPU, on the
shards that `make pipeline` makes. At full size, on a GPU: pipelines/video_xl_pro/recot.yaml, with
`--set tower.init=random` where there are no weights. The steps are those of the training itself.
Each part is timed between hooks, the device being waited for at each of them, so that a step here
takes longer than in a training: it is timed a second time without. `optimizer` is what comes after
the last gradient: clipping, the update, and with several processes the exchange. On a GPU the
operations that `vxp-model estimate` counts are set against the time, and against the rate of a
large bf16 matmul measured here. The record: manifests/runs/recot-<preset>-<device>.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import records
import torch
from device_rates import matmul_flops, peak_bytes, wait_for
from torch import nn

from vxp_data.settings.file import Loaded
from vxp_model.models.flops import recot_flop_per_group, tower_flop_per_frame
from vxp_model.models.recot import ReCoTModel
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.settings.recot import RECIPES, ReCoTRecipe, load_recipe
from vxp_model.train.batches import MicroBatch, collate, open_loader, recot_window, step_batches
from vxp_model.train.build import new_model, uses_bf16
from vxp_model.train.distributed import DistributedContext, join_distributed
from vxp_model.train.engine import Engine
from vxp_model.train.mixture import accumulation, epoch_samples, rows_of
from vxp_model.train.model_config import model_config
from vxp_model.train.recot.features import FeatureSource, build_tower
from vxp_model.train.recot.step import Stepper

DEMO: Final = "pipelines/smoke/recot.yaml"
LIBRARIES: Final = ("vxp", "torch", "deepspeed", "transformers", "numpy", "av")
PARTS: Final = ("data", "tower", "masking", "dts", "decoder", "optimizer", "rest")


class PartTimes:
    """Seconds by part of a step, forward and backward, from hooks on the modules."""

    def __init__(self, model: ReCoTModel, tower: nn.Module, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._at_s = 0.0
        self._handles: list[Any] = []
        for name, module in (
            ("tower", tower),
            ("masking", model.sgm),
            ("dts", model.dts),
            ("decoder", model.decoder),
        ):
            self._handles.append(module.register_forward_pre_hook(self._ends("rest")))
            self._handles.append(module.register_forward_hook(self._ends(name)))
        for name in ("decoder", "dts"):
            module = model.get_submodule(name)
            before = "rest" if name == "decoder" else "decoder"
            self._handles.append(module.register_full_backward_pre_hook(self._ends(before)))
            self._handles.append(module.register_full_backward_hook(self._ends(name)))

    def begin(self) -> None:
        """Count from now on."""
        wait_for(self._device)
        self._at_s = time.perf_counter()

    def end(self, part: str) -> None:
        """Book what has gone by since the last mark under a part."""
        wait_for(self._device)
        now_s = time.perf_counter()
        self.seconds[part] += now_s - self._at_s
        self._at_s = now_s

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _ends(self, part: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self.end(part)

        return hook


class Bench:
    """The parts of a training, as `Training` puts them together."""

    def __init__(self, recipe: ReCoTRecipe, context: DistributedContext, *, compiled: bool) -> None:
        self.recipe, self.context = recipe, context
        self.config: ReCoTConfig = model_config(recipe.model)
        self.bf16 = uses_bf16(recipe.engine, context.device)
        self.micro_batches = accumulation(recipe.batch, context.size)
        self.tower = build_tower(
            self.config,
            recipe.tower,
            seed=recipe.run.seed,
            dtype=torch.bfloat16 if self.bf16 else torch.float32,
        )
        self.model = new_model(self.config, seed=recipe.run.seed)
        self.model.checkpoint_stages = recipe.model.checkpoint_stages
        if compiled:
            for module in (self.tower, self.model.dts, self.model.decoder):
                module.compile()
        features = FeatureSource(self.tower, self.config, recipe.tower, context)
        engine = Engine(
            self.model,
            engine=recipe.engine,
            optim=recipe.optim,
            micro_samples=recipe.batch.micro_samples,
            accumulation=self.micro_batches,
            bf16=self.bf16,
            context=context,
            rate_mults={"sgm.": recipe.optim.sgm_lr_mult},
        )
        engine.train()
        self.stepper = Stepper(engine, self.model, features, context)
        rows = rows_of(recipe)
        num_samples = epoch_samples(recipe, rows)
        self.loader = open_loader(
            recipe,
            rows,
            image_px=self.config.vision.image_px,
            num_samples=num_samples,
            context=context,
            window=recot_window(recipe),
        )

    def steps(self) -> Iterator[list[MicroBatch]]:
        """Return each step's micro-batches."""
        for step in step_batches(self.loader, self.micro_batches):
            yield [
                collate(
                    batch.samples,
                    grouper=self.model.grouper,
                    num_tokens=self.config.grid**2,
                    seed=self.recipe.run.seed,
                    unmasked_share=self.config.sgm.unmasked_share,
                )
                for batch in step
            ]

    def run(self, batches: list[MicroBatch]) -> None:
        """Run a step."""
        self.stepper.run(
            batches,
            num_frames=sum(batch.num_valid for batch in batches) * self.context.size,
            lr=self.recipe.optim.lr,
            mask_ratio=self.config.sgm.ratio,
            with_view=False,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("recipe", nargs="?", type=Path, default=records.ROOT / DEMO)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--steps", type=int, default=20, help="timed, after the warm-up")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile tower and compressor")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    overrides = [RECIPES.parse_set(text) for text in args.settings]
    loaded: Loaded[ReCoTRecipe] = load_recipe(args.recipe, overrides)
    recipe = loaded.config
    with join_distributed(recipe.engine.device) as context:
        bench = Bench(recipe, context, compiled=args.compile)
        try:
            found = measure(bench, steps=args.steps, warmup=args.warmup)
        finally:
            bench.loader.close()
        if context.device.type == "cuda":
            found |= achieved(bench, found)
    name = f"recot-{recipe.model.preset}-{context.device.type}"
    found |= {"compiled": args.compile, "note": args.note}
    path = records.write_record(
        f"{name}-compiled" if args.compile else name,
        found,
        argv=[sys.argv[0], *(argv or sys.argv[1:])],
        libraries=LIBRARIES,
    )
    for part in PARTS:
        print(f"{part:<10} {found['parts_s'][part]:9.4f} s")
    print(f"{'step':<10} {found['step_s']:9.4f} s without marks; record: {path}")


def measure(bench: Bench, *, steps: int, warmup: int) -> dict[str, Any]:
    """Time steps: first whole ones, then their parts."""
    device, batches = bench.context.device, bench.steps()
    for _ in range(warmup):
        bench.run(next(batches))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    whole_s, waits_s, num_groups, num_frames = [], [], 0, 0
    for _ in range(steps):
        began_s = time.perf_counter()
        step = next(batches)
        waits_s.append(time.perf_counter() - began_s)
        bench.run(step)
        wait_for(device)
        whole_s.append(time.perf_counter() - began_s)
        num_groups += sum(len(batch.groups.frame_GT) for batch in step)
        num_frames += sum(len(batch.frames_FHWC) for batch in step)
    times = PartTimes(bench.model, bench.tower, device)
    for _ in range(steps):
        times.begin()
        step = next(batches)
        times.end("data")
        bench.run(step)
        times.end("optimizer")
    times.remove()
    samples = bench.recipe.batch.global_samples
    step_s = statistics.median(whole_s)
    return {
        "preset": bench.recipe.model.preset,
        "device": device.type,
        "precision": "bf16" if bench.bf16 else "fp32",
        "zero_stage": bench.recipe.engine.zero_stage,
        "offload": bench.recipe.engine.offload,
        "samples_a_step": samples,
        "micro_samples": bench.recipe.batch.micro_samples,
        "groups_a_step": round(num_groups / steps, 1),
        "frames_a_step": round(num_frames / steps, 1),
        "steps": steps,
        "step_s": round(step_s, 5),
        "step_s_without_data": round(
            statistics.median(a - b for a, b in zip(whole_s, waits_s, strict=True)), 5
        ),
        "samples_per_s": round(samples / step_s, 2),
        "parts_s": {part: round(times.seconds[part] / steps, 5) for part in PARTS},
        "peak_gib": round(peak_bytes(device) / 2**30, 3),
    }


def achieved(bench: Bench, found: dict[str, Any]) -> dict[str, Any]:
    """Set the counted operations against the time, and against a matmul's rate."""
    parts, config = found["parts_s"], bench.config
    tower_flop = tower_flop_per_frame(config.vision) * found["frames_a_step"]
    trained_flop = 3 * recot_flop_per_group(config) * found["groups_a_step"]
    peak = matmul_flops(bench.context.device)
    whole_hours = 1e6 / found["samples_per_s"] / 3600
    return {
        "matmul_tflops": round(peak / 1e12, 1),
        "tower_share_of_matmul": round(tower_flop / parts["tower"] / peak, 3),
        "trained_share_of_matmul": round(
            trained_flop / (parts["dts"] + parts["decoder"]) / peak, 3
        ),
        "gpu_hours_per_million_samples": round(whole_hours * bench.context.size, 1),
    }


if __name__ == "__main__":
    main()
