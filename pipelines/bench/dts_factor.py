"""What does compressing in time cost and save? The toy with 1, 2, 4 and 8 frames made one.

    python pipelines/bench/dts_factor.py [--clips 500 --steps 400 --seeds 3]

Factor 1 is the baseline of the paper's Table 5 and Figure 5: no compressor, every frame with its
own time text and tokens. The toy's clips (toy_clips.py) in 16 frames, so that also factor 8 has two
groups; the tiny preset, all of it from chance (pipelines/video_xl_pro/toy.yaml), equal steps,
samples and seeds for all factors. Counted: right answers about held-out clips, with t-intervals
over the seeds, paired against factor 4. Timed in CPU seconds, one thread: a step, and what passes
before an answer's first token, for the toy's clips and for long ones. Beside it the same for the
paper's model at 360 frames, by arithmetic. What is finished is kept in OUT, and taken from there
when the command is given again. The record: manifests/runs/dts-factor.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import records
import torch
from finished import Finished
from student_t import with_interval
from toy import RECIPE, shard
from toy_clips import FPS, SIDE_PX, TASKS, draw_clips

from vxp_data.settings.file import read_yaml
from vxp_model.inference.answers import WatchedVideo
from vxp_model.inference.session import UNLIMITED, LongVideoModel
from vxp_model.models.budget import ContextBudget
from vxp_model.models.flops import MllmFlops
from vxp_model.models.parameter_counts import part_parameters
from vxp_model.models.video_xl_pro_shape import preset_shape
from vxp_model.settings.mllm import ALL_PARTS, MLLM_RECIPES
from vxp_model.train.distributed import DistributedContext, join_distributed
from vxp_model.train.metrics_log import read_log
from vxp_model.train.mllm.run import train_mllm

FACTORS: Final = (1, 2, 4, 8)
REFERENCE: Final = 4
"""The paper's; the others are compared with it."""
NUM_FRAMES: Final = 16
LONG_FRAMES: Final = 512
TIMED_STEPS: Final = (3, 15)
"""Of two trainings whose difference is what steps take."""
NUM_TIMED: Final = 5
"""Questions timed; the median counts."""
PAPER_FRAMES: Final = 360
LIBRARIES: Final = ("vxp", "torch", "deepspeed", "transformers", "numpy", "av")
T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, shard, train, time, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=500, help="clips that are trained on")
    parser.add_argument("--heldout", type=int, default=200, help="clips that are asked about")
    parser.add_argument("--steps", type=int, default=400, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each factor")
    parser.add_argument("--out", type=Path, default=Path("runs/dts-factor"), help="kept")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the model is tiny: threads would wait for each other
    began_cpu_s = time.process_time()
    known = Finished(args.out / "found.json")
    counts = {"train": args.clips, "heldout": args.heldout}
    asked = known.get("asked", draw, args.out, counts)
    with join_distributed("cpu") as context:
        rows: dict[int, list[dict[str, Any]]] = {factor: [] for factor in FACTORS}
        for seed in range(args.seeds):
            for factor in FACTORS:
                key = f"factor {factor}, seed {seed}"
                rows[factor].append(known.get(key, train, args, context, factor, seed, asked))
                print(key, rows[factor][-1], flush=True)
        costs = {
            factor: known.get(f"cost {factor}", cost, args.out, context, factor)
            for factor in FACTORS
        }
    found = {
        "factors": {str(f): figures(rows[f], costs[f], rows[REFERENCE]) for f in FACTORS},
        "full_size": {str(factor): full_size(factor) for factor in FACTORS},
        "frames_of_a_clip": NUM_FRAMES,
        "frames_of_a_long_clip": LONG_FRAMES,
        "clips": args.clips,
        "heldout_questions": sum(asked.values()),
        "steps": args.steps,
        "seeds": args.seeds,
        "chance": 0.25,
        "note": args.note,
        "cpu_minutes_of_trainings": round(
            sum(row["cpu_minutes"] for own in rows.values() for row in own), 1
        ),
        "cpu_minutes_of_this_call": round((time.process_time() - began_cpu_s) / 60, 1),
    }
    told = [sys.argv[0], *(argv or sys.argv[1:])]
    print(f"record: {records.write_record('dts-factor', found, argv=told, libraries=LIBRARIES)}")


def draw(out: Path, counts: Mapping[str, int]) -> dict[str, int]:
    """Draw and shard the toy's clips; return the held-out questions by task."""
    return shard(out, counts, arms=("video",), num_frames=NUM_FRAMES)


def train(
    args: argparse.Namespace,
    context: DistributedContext,
    factor: int,
    seed: int,
    asked: Mapping[str, int],
) -> dict[str, Any]:
    """Train once; return the shares of right answers, and what a step was."""
    began_cpu_s = time.process_time()
    tree = toy_tree(args.out, factor, f"model-{factor}-{seed}", steps=args.steps, seed=seed)
    tree["validation"] = {
        "sources": [{"uri": str(args.out / "heldout" / "video" / "shards")}],
        "steps": args.steps,
    }
    done = train_mllm(MLLM_RECIPES.read(tree, str(RECIPE)), context, print)
    log = read_log(done.out / "log.jsonl")
    right = {task: round(log[-1][f"val/answers/{task}"] * asked[task]) for task in TASKS}
    samples = len(log) * tree["batch"]["global_samples"]
    return {
        "accuracy": {task: right[task] / asked[task] for task in TASKS}
        | {"all": sum(right.values()) / sum(asked.values())},
        "heldout_loss": log[-1]["val/loss"],
        "visual_tokens": sum(entry["visual_tokens"] for entry in log) / samples,
        "positions": sum(entry["tokens"] for entry in log) / samples,
        "flop_of_a_step": statistics.fmean(entry["flop"] for entry in log),
        "cpu_minutes": round((time.process_time() - began_cpu_s) / 60, 2),
    }


def toy_tree(out: Path, factor: int, name: str, *, steps: int, seed: int) -> dict[str, Any]:
    """Return the toy's recipe with a factor, without validation."""
    tree = read_yaml(RECIPE)
    del tree["validation"]
    tree["start"]["temporal_factor"] = factor
    tree["data"]["sources"][0]["uri"] = str(out / "train" / "video" / "shards")
    tree["run"] |= {
        "out": str(out / name), "seed": seed, "steps": steps, "checkpoint_steps": steps,
    }  # fmt: skip
    return tree


def cost(out: Path, context: DistributedContext, factor: int) -> dict[str, Any]:
    """Time a step, and what passes before an answer's first token; CPU seconds."""
    took_s = []
    for steps in TIMED_STEPS:
        name = f"timed-{factor}-{steps}"
        tree = toy_tree(out, factor, name, steps=steps, seed=time.time_ns() % 2**31)
        tree["run"]["out"] += f"-{time.time_ns()}"  # a run that is done would only be read
        recipe = MLLM_RECIPES.read(tree, str(RECIPE))
        began_cpu_s = time.process_time()
        train_mllm(recipe, context, lambda _: None)
        took_s.append(time.process_time() - began_cpu_s)
    step_s = (took_s[1] - took_s[0]) / (TIMED_STEPS[1] - TIMED_STEPS[0])
    model = LongVideoModel.load(out / f"model-{factor}-0" / "model", device="cpu", dtype="float32")
    model.model.config.context_limit = UNLIMITED
    return {
        "step_cpu_s": step_s,
        "first_token": first_token(model, NUM_FRAMES),
        "first_token_of_a_long_clip": first_token(model, LONG_FRAMES),
    }


def first_token(model: LongVideoModel, num_frames: int) -> dict[str, float]:
    """Return the CPU seconds for a clip's tokens, and for the prompt and the first new token."""
    (clip,) = draw_clips(1, seed=0, num_frames=num_frames)
    piece = model.piece_frames
    frames_THWC = clip.frames_THWC
    assert frames_THWC.shape[1] == SIDE_PX
    encode_s, answer_s, positions = [], [], 0
    for _ in range(NUM_TIMED):
        began_s = time.process_time()
        watched: WatchedVideo = model.watch_frames(
            (frames_THWC[at : at + piece] for at in range(0, num_frames, piece)),
            time_s_F=(np.arange(num_frames) / FPS).tolist(),
            duration_s=num_frames / FPS,
        )
        encoded_s = time.process_time()
        answer = model.ask(watched, "Which colour is first?", max_new_tokens=1)
        positions = answer.num_positions
        encode_s.append(encoded_s - began_s)
        answer_s.append(time.process_time() - encoded_s)
    return {
        "encode_cpu_s": statistics.median(encode_s),
        "read_cpu_s": statistics.median(answer_s),
        "positions": positions,
    }


def figures(
    rows: Sequence[Mapping[str, Any]],
    timed: Mapping[str, Any],
    reference: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Put together what is known of one factor."""
    found: dict[str, Any] = {
        "visual_tokens": round(rows[0]["visual_tokens"], 2),
        "positions": round(rows[0]["positions"], 1),
        "flop_of_a_step": float(f"{statistics.fmean(r['flop_of_a_step'] for r in rows):.4g}"),
        **rounded(timed),
        "accuracy": {},
    }
    for task in (*TASKS, "all"):
        shares = [row["accuracy"][task] for row in rows]
        entry: dict[str, Any] = {"by_seed": [round(share, 4) for share in shares]}
        entry |= with_interval(shares)
        if rows is not reference:
            differences = [
                own - other["accuracy"][task] for own, other in zip(shares, reference, strict=True)
            ]
            entry[f"less_factor_{REFERENCE}"] = with_interval(differences)
        found["accuracy"][task] = entry
    return found


def full_size(factor: int) -> dict[str, Any]:
    """Return what the paper's model takes for a video, by arithmetic."""
    shape = preset_shape("3b", temporal_factor=factor)
    price = ContextBudget.of(shape).cost(PAPER_FRAMES, num_text=256)

    def flop(trained: Sequence[str]) -> float:
        return MllmFlops.of(shape, trained).of_samples(
            num_frames=PAPER_FRAMES,
            num_groups=-(-PAPER_FRAMES // factor),
            positions=[price.num_positions],
            num_labels=256 if trained else 1,
        )

    return {
        "frames": PAPER_FRAMES,
        "visual_tokens": price.num_visual,
        "positions": price.num_positions,
        "compressor_parameters": part_parameters(shape)["dts"],
        "training_tflop": round(flop(ALL_PARTS) / 1e12, 1),
        "first_token_tflop": round(flop(()) / 1e12, 1),
        "of_which_tower_tflop": round(MllmFlops.of(shape, ()).frame * PAPER_FRAMES / 1e12, 1),
        "cache_gb": round(price.cache_bytes / 1e9, 2),
        "frames_in_32768": ContextBudget.of(shape).frames_within(32_768),
    }


def rounded(tree: Any) -> Any:
    """Round the numbers of a tree to four digits."""
    if isinstance(tree, Mapping):
        return {name: rounded(value) for name, value in tree.items()}
    return float(f"{tree:.4g}") if isinstance(tree, float) else tree


if __name__ == "__main__":
    main()
