"""Time the training of Video-XL-Pro beside a plain loop under accelerate, on a CPU; and its memory.

    python pipelines/bench/train_speed.py [--rounds 3]

The tiny preset, on shards of the toy's clips with captions of 200 tokens and questions
(loss_weight.py), for each stage in turn:

* vxp: `train_mllm` as the command runs it: shards, DeepSpeed, log, TensorBoard, progress;
* accelerate: the loop of transformers' examples under `Accelerator`: the same model class, the same
  batches in the same order, AdamW, clipping, the same rates; it writes nothing.

A step's seconds are the difference between a run of many steps and one of few, divided by how many
more: what comes before the first step and after the last is not in it. The losses of both are
compared step by step. Beside it: how long a step waits for its data, with and without workers; the
peak memory of a model of 138 M parameters against `vxp-model estimate` (train_memory.py); the
seconds of commands that load no torch. The record: manifests/runs/train-speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import records
from loss_weight import shard
from toy import RECIPE

from vxp_data.settings.file import Loaded, read_yaml
from vxp_model.settings.mllm import MLLM_RECIPES, MllmRecipe

LIBRARIES: Final = ("vxp", "torch", "deepspeed", "accelerate", "transformers", "numpy")
STAGES: Final = ("align", "sft")
ARMS: Final = ("vxp", "accelerate")
FEW: Final = 4
"""Steps of the short run."""
COMMANDS: Final = {
    "frames": ["frames", "--memory-gb", "80"],
    "estimate sft": ["estimate", "video_xl_pro/sft"],
    "estimate eval": ["estimate", "video_xl_pro/eval"],
    "show-config sft": ["show-config", "video_xl_pro/sft"],
    "benchmarks": ["benchmarks"],
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write shards, time the arms in turn, write the record; or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of the long run")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/train-speed"),
        help="parts that are done are kept in it",
    )
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.arm:
        print(json.dumps(run_arm(*args.arm.split(","), args.out, args.steps)))
        return
    out: Path = args.out
    if not (out / "heldout" / "shards").is_dir():
        shard(out, {"train": 64, "heldout": 4})
    makers: dict[str, Callable[[], Any]] = {
        "commands": lambda: {name: command_seconds(words) for name, words in COMMANDS.items()},
        "stages": lambda: speeds(out, args.steps, args.rounds),
        "data_wait_share": lambda: waits(out, args.steps),
        "memory": memory,
    }
    found = {
        "steps": [FEW, args.steps],
        "rounds": args.rounds,
        **{name: kept(out / f"{name}.json", make) for name, make in makers.items()},
        "note": args.note,
    }
    path = records.write_record(
        "train-speed", found, argv=[sys.argv[0], *(argv or sys.argv[1:])], libraries=LIBRARIES
    )
    print(json.dumps(found, indent=1))
    print(f"record: {path}")


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a part of the measurements gave, made once."""
    if not path.is_file():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def waits(out: Path, steps: int) -> dict[str, Any]:
    """Return the share of a step in which it waits for its data, by number of workers."""
    return {
        f"{workers} workers": child(f"vxp,sft,{workers}", out, steps)["wait"] for workers in (0, 2)
    }


def speeds(out: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Time both arms of each stage, in turn."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for stage in STAGES:
            for arm in ARMS:
                runs.setdefault((stage, arm), []).append(child(f"{arm},{stage},0", out, steps))
    found: dict[str, Any] = {}
    for stage in STAGES:
        ours, theirs = (runs[stage, arm] for arm in ARMS)
        middle = {
            arm: {
                name: round(statistics.median(run[name] for run in runs[stage, arm]), 4)
                for name in ("cpu_s", "wall_s", "tokens_per_s")
            }
            for arm in ARMS
        }
        ratios = {
            name: [round(b[name] / a[name], 3) for a, b in zip(ours, theirs, strict=True)]
            for name in ("cpu_s", "wall_s")
        }
        pairs = zip(ours[0]["losses"], theirs[0]["losses"], strict=True)
        found[stage] = {
            "a_step": middle,
            "accelerate_to_vxp": {
                name: {"median": statistics.median(own), "rounds": own}
                for name, own in ratios.items()
            },
            "greatest_difference_of_losses": max(abs(a - b) / a for a, b in pairs),
        }
    return found


def child(arm: str, out: Path, steps: int) -> dict[str, Any]:
    """Run an arm in a process of its own; one thread."""
    done = subprocess.run(
        [sys.executable, __file__, "--arm", arm, "--out", str(out), "--steps", str(steps)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(arm, {k: v for k, v in found.items() if k != "losses"}, file=sys.stderr, flush=True)
    return found


def recipe(out: Path, stage: str, steps: int, *, workers: int, run: str) -> Loaded[MllmRecipe]:
    """Return the toy's recipe on these shards, with one micro-batch a step."""
    tree = read_yaml(RECIPE)
    del tree["validation"]
    tree |= {"stage": stage, "loss": "token"}  # what the model's own `loss` is
    tree["data"] = {"sources": [{"uri": str(out / "train" / "shards")}], "workers": workers}
    tree["run"] = {"out": run, "steps": steps, "checkpoint_steps": 10_000}
    return MLLM_RECIPES.read(tree, str(RECIPE))


def run_arm(arm: str, stage: str, workers: str, out: Path, steps: int) -> dict[str, Any]:
    """Run few steps and many; return what one takes, and all losses."""
    import torch

    from vxp_model.train.distributed import DistributedContext, join_distributed

    torch.set_num_threads(1)
    # accelerate would wrap the model for several processes, were there a group of them.
    alone = nullcontext(DistributedContext(rank=0, size=1, device=torch.device("cpu")))
    own, joined = {
        "vxp": (with_vxp, join_distributed("cpu")),
        "accelerate": (with_accelerate, alone),
    }[arm]
    took = []
    with joined as context, tempfile.TemporaryDirectory() as folder:
        own(recipe(out, stage, 1, workers=0, run=f"{folder}/warm"), context)  # imports, kernels
        for count in (FEW, steps):
            loaded = recipe(out, stage, count, workers=int(workers), run=f"{folder}/{count}")
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            found = own(loaded, context)
            took.append((time.process_time() - began_cpu_s, time.monotonic() - began_s, found))
    (few_cpu_s, few_s, _), (cpu_s, wall_s, found) = took
    a_step_s = (wall_s - few_s) / (steps - FEW)
    tokens = statistics.fmean(found["tokens"])
    return {
        "cpu_s": (cpu_s - few_cpu_s) / (steps - FEW),
        "wall_s": a_step_s,
        "tokens_per_s": tokens / a_step_s,
        "losses": found["losses"],
        "wait": found.get("wait"),
    }


def with_vxp(loaded: Loaded[MllmRecipe], context: Any) -> dict[str, Any]:
    """Train as the command does."""
    from vxp_model.train.metrics_log import read_log
    from vxp_model.train.mllm.run import train_mllm

    done = train_mllm(loaded, context, lambda _: None)
    log = read_log(done.out / "log.jsonl")
    late = log[FEW:] or log
    waited = sum(entry["data_wait_share"] * entry["step_s"] for entry in late)
    return {
        "losses": [entry["loss"] for entry in log],
        "tokens": [entry["tokens"] for entry in log],
        "wait": round(waited / sum(entry["step_s"] for entry in late), 4),
    }


def with_accelerate(loaded: Loaded[MllmRecipe], context: Any) -> dict[str, Any]:
    """Train by the loop of transformers' examples."""
    import torch
    from accelerate import Accelerator

    from vxp_model.train.batches import open_loader, step_batches
    from vxp_model.train.engine import parameter_groups
    from vxp_model.train.mixture import epoch_samples, rows_of
    from vxp_model.train.mllm.batches import collate
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.schedule import lr_factor

    config = loaded.config
    optim, steps = config.optim, config.run.steps or 1
    accelerator = Accelerator(cpu=True)
    model, processor = start_model(config)
    groups, _ = parameter_groups(model, weight_decay=optim.weight_decay, rate_mults={})
    adam = torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps)
    rates = torch.optim.lr_scheduler.LambdaLR(
        adam,
        lambda step: lr_factor(step, total_steps=steps, warmup=optim.warmup, final=optim.final_lr),
    )
    model, adam, rates = accelerator.prepare(model, adam, rates)
    loader = open_loader(
        config,
        image_px=processor.image_px,
        num_samples=epoch_samples(config, rows_of(config)),
        context=context,
    )
    model.train()
    losses, tokens = [], []
    for (batch,) in step_batches(loader, 1):
        collated = collate(batch.samples, processor=processor, seed=config.run.seed)
        output = model(**collated.inputs, selector_seeds=collated.selector_seeds)
        accelerator.backward(output.loss)
        accelerator.clip_grad_norm_(model.parameters(), optim.clip_norm)
        adam.step()
        rates.step()
        adam.zero_grad()
        losses.append(float(output.loss.detach()))
        tokens.append(collated.num_positions)
        if len(losses) == steps:
            break
    loader.close()
    return {"losses": losses, "tokens": tokens}


def memory() -> dict[str, Any]:
    """Measure each case of train_memory.py in a process of its own."""
    import train_memory

    return {name: train_memory.measure(name) for name in train_memory.CASES}


def command_seconds(words: Sequence[str], repeats: int = 5) -> Mapping[str, float]:
    """Return a command's median seconds, its byte-code written before."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        took = []
        for _ in range(repeats + 1):
            began_s, began = time.monotonic(), os.times()
            subprocess.run(
                [sys.executable, "-m", "vxp_model", *words],
                env=environment, stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
            now = os.times()
            cpu_s = now.children_user + now.children_system
            cpu_s -= began.children_user + began.children_system
            took.append((cpu_s, time.monotonic() - began_s))
    cpu, wall = zip(*took[1:], strict=True)
    return {
        "cpu_s": round(statistics.median(cpu), 3), "wall_s": round(statistics.median(wall), 3)
    }  # fmt: skip


if __name__ == "__main__":
    main()
