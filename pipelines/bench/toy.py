"""Show that Video-XL-Pro learns from video, on a CPU: questions that only the clip answers.

    python pipelines/bench/toy.py [--clips 1000 --steps 1500]

Clips of moving discs are drawn (toy_clips.py): which colour, which way, how many, which colour
first. `vxp-data` prunes (all kept), plans and shards them, and the same questions without their
clips. The tiny preset, all of it from chance, is trained on the shards
(pipelines/video_xl_pro/toy.yaml) with the clips, and once without: the text-only baseline. Counted
is how many questions about other clips, drawn with another seed, get the right letter, which is
what validation during training measures; with 95 % Wilson intervals. The record:
manifests/runs/mllm-toy.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import records
from toy_clips import NUM_FRAMES, SIDE_PX, TASKS, draw_clips, task_of, write_rows
from wilson import share

from vxp_data.cli import app
from vxp_data.engines.choose import one_engine
from vxp_data.settings.file import read_yaml
from vxp_data.settings.prune import load_config
from vxp_model.settings.mllm import MLLM_RECIPES
from vxp_model.train.distributed import DistributedContext, join_distributed
from vxp_model.train.metrics_log import read_log
from vxp_model.train.mllm.run import train_mllm

CURATION: Final = records.ROOT / "pipelines" / "demo.yaml"
RECIPE: Final = records.ROOT / "pipelines" / "video_xl_pro" / "toy.yaml"
LIBRARIES: Final = ("vxp", "torch", "deepspeed", "transformers", "numpy", "av", "ray")
ARMS: Final = ("video", "text")
PARTS: Final = {"train": 0, "heldout": 1}
"""Folders of clips, and the seeds that they are drawn with."""


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, shard, train with and without clips, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, default=1000, help="clips that are trained on")
    parser.add_argument("--heldout", type=int, default=400, help="clips that are asked about")
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--seed", type=int, default=0, help="of both trainings")
    parser.add_argument("--out", type=Path, default=Path("runs/toy"), help="removed and made anew")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    began_s = time.monotonic()
    out: Path = args.out
    shutil.rmtree(out, ignore_errors=True)
    asked = shard(out, {"train": args.clips, "heldout": args.heldout})
    sharded_s = time.monotonic() - began_s
    print(f"drawn and sharded after {sharded_s:.0f} s", flush=True)
    with join_distributed("cpu") as context:
        arms = {arm: train(out, arm, args.seed, args.steps, context, asked) for arm in ARMS}
    found = {
        "arms": arms,
        "chance": 0.25,
        "clips": args.clips,
        "heldout_clips": args.heldout,
        "steps": args.steps,
        "note": args.note,
        "minutes_of_sharding": round(sharded_s / 60, 1),
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }
    path = records.write_record(
        "mllm-toy", found, argv=[sys.argv[0], *(argv or sys.argv[1:])], libraries=LIBRARIES
    )
    for arm, row in arms.items():
        for kind, own in row["heldout"].items():
            low, high = own["wilson_95"]
            print(f"{arm:<6} {kind:<10} {own['accuracy']:.3f} ({low:.3f} to {high:.3f})")
    print(f"record: {path}")


def shard(
    out: Path,
    counts: Mapping[str, int],
    *,
    arms: Sequence[str] = ARMS,
    num_frames: int = NUM_FRAMES,
) -> dict[str, int]:
    """Draw clips, prune (all kept), plan every frame, write shards of images; in one Ray.

    Args:
        out: gets a folder for each of PARTS, and in it one for each arm.
        counts: clips of each of PARTS.
        arms: 'video': with the clips; 'text': without.
        num_frames: of a clip.

    Returns:
        asked: held-out questions by task.
    """
    asked: Counter[str] = Counter()
    with one_engine(load_config(CURATION, []).config.cluster):
        for part, seed in PARTS.items():
            clips = draw_clips(counts[part], seed=seed, num_frames=num_frames)
            if part == "heldout":
                asked = Counter(task_of(key) for clip in clips for key in clip.answers)
            for arm in arms:
                folder = out / part / arm
                mixture = write_rows(clips, folder, with_video=arm == "video")
                run = str(folder / "run")
                curate("prune", str(mixture), "--out", run, "--recipe", str(CURATION),
                       "--keep", "1.0", "--encoder", "thumbnail")  # fmt: skip
                curate("sample", run, "--set", "sampling.policy=uniform_n",
                       "--set", f"sampling.num_frames={num_frames}")  # fmt: skip
                curate("shard", run, "--out", str(folder / "shards"), "--payload", "frames",
                       "--set", f"shard.frame_px={SIDE_PX}")  # fmt: skip
    return dict(asked)


def curate(*words: str) -> None:
    """Run a command of vxp-data here."""
    app(list(words), standalone_mode=False)


def train(
    out: Path,
    arm: str,
    seed: int,
    steps: int,
    context: DistributedContext,
    asked: Mapping[str, int],
) -> dict[str, Any]:
    """Train once, with the clips or without; return what validation measured."""
    tree = read_yaml(RECIPE)
    tree["data"]["sources"][0]["uri"] = str(out / "train" / arm / "shards")
    tree["validation"]["sources"][0]["uri"] = str(out / "heldout" / arm / "shards")
    tree["run"] |= {"out": str(out / arm), "seed": seed, "steps": steps, "checkpoint_steps": steps}
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    done = train_mllm(MLLM_RECIPES.read(tree, str(RECIPE)), context, print)
    validations = [entry for entry in read_log(done.out / "log.jsonl") if "val/answers" in entry]
    right = {task: round(validations[-1][f"val/answers/{task}"] * asked[task]) for task in TASKS}
    rows = {task: share(right[task], asked[task]) for task in TASKS}
    return {
        "heldout": rows | {"all": share(sum(right.values()), sum(asked.values()))},
        "accuracy_by_step": {
            entry["step"]: {task: round(entry[f"val/answers/{task}"], 3) for task in TASKS}
            for entry in validations
        },
        "train_loss": round(done.final_loss, 4),
        "heldout_loss": round(validations[-1]["val/loss"], 4),
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "cpu_minutes": round((time.process_time() - began_cpu_s) / 60, 1),
    }


if __name__ == "__main__":
    main()
