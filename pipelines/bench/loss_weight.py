"""Compare the two means of the loss on a mix of long captions and one-letter answers, on a CPU.

    python pipelines/bench/loss_weight.py [--seeds 3 --steps 300]

Clips of the toy (toy_clips.py), each question about one beside a caption of some 200 tokens that
says the same and goes on with words drawn at random, as what a caption adds to the clip cannot be
told either: half of the samples, and 1 % of the label tokens, are letters. The tiny preset, all of
it from chance, is trained with `loss: token` and with `loss: sample`, everything else equal, seed
by seed. Counted are right letters and the loss of a caption's tokens on other clips, with 95 %
intervals by Student's t over the seeds, also of the difference, paired by seed. A training that is
done is kept in --out and not done again. The record: manifests/runs/loss-weight.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
from student_t import paired
from toy import CURATION, LIBRARIES, PARTS, RECIPE, curate
from toy_clips import (
    LETTERS,
    NUM_FRAMES,
    QUESTIONS,
    SIDE_PX,
    ToyClip,
    draw_clips,
    write_clip,
    write_mixture,
)

from vxp_data.engines.choose import one_engine
from vxp_data.settings.file import read_yaml
from vxp_data.settings.prune import load_config
from vxp_model.settings.mllm import MLLM_RECIPES
from vxp_model.train.distributed import DistributedContext, join_distributed
from vxp_model.train.metrics_log import read_log
from vxp_model.train.mllm.run import train_mllm

LOSSES: Final = ("token", "sample")
CAPTION_BYTES: Final = 200
"""Of a caption; the tiny preset has a token for each."""
WORDS: Final = (
    "light", "paper", "window", "quiet", "garden", "metal", "river", "north", "little", "evening",
    "camera", "floor", "signal", "winter", "letter", "market", "engine", "valley", "shadow",
    "glass",
)  # fmt: skip
MEASURES: Final = {
    "multiple_choice_accuracy": "val/multiple_choice_accuracy",
    "caption_token_loss": "val/loss/caption",
    "choice_token_loss": "val/loss/choice",
}
_DRAWS: Final = 100_000


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, shard, train each seed with each mean, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, default=1000, help="clips that are trained on")
    parser.add_argument("--heldout", type=int, default=200, help="clips that are asked about")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--out", type=Path, default=Path("runs/loss-weight"))
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    began_s = time.monotonic()
    if not (args.out / "heldout" / "shards").is_dir():
        shard(args.out, {"train": args.clips, "heldout": args.heldout})
    with join_distributed("cpu") as context:
        runs = [
            train(args.out, loss, seed, args.steps, context)
            for seed in range(args.seeds)
            for loss in LOSSES
        ]
    found = {
        "arms": {loss: [run for run in runs if run["loss"] == loss] for loss in LOSSES},
        **summary(runs),
        "share_of_letters": letter_shares(args.out),
        "clips": args.clips,
        "heldout_clips": args.heldout,
        "steps": args.steps,
        "note": args.note,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }
    path = records.write_record(
        "loss-weight", found, argv=[sys.argv[0], *(argv or sys.argv[1:])], libraries=LIBRARIES
    )
    for name, row in found["minus"].items():
        print(f"sample - token, {name}: {row['mean']} ({row['low']} to {row['high']})")
    print(f"record: {path}")


def shard(out: Path, counts: Mapping[str, int]) -> None:
    """Draw clips, prune (all kept), plan every frame, write shards of images; in one Ray."""
    with one_engine(load_config(CURATION, []).config.cluster):
        for part, seed in PARTS.items():
            folder = out / part
            clips = draw_clips(counts[part], seed=seed)
            mixture = write_rows(clips, folder, seed=seed, captions_of_all=part == "train")
            run = str(folder / "run")
            curate("prune", str(mixture), "--out", run, "--recipe", str(CURATION),
                   "--keep", "1.0", "--encoder", "thumbnail")  # fmt: skip
            curate("sample", run, "--set", "sampling.policy=uniform_n",
                   "--set", f"sampling.num_frames={NUM_FRAMES}")  # fmt: skip
            curate("shard", run, "--out", str(folder / "shards"), "--payload", "frames",
                   "--set", f"shard.frame_px={SIDE_PX}")  # fmt: skip


def write_rows(clips: Sequence[ToyClip], folder: Path, *, seed: int, captions_of_all: bool) -> Path:
    """Write clips, a row for each question, and captions.

    Args:
        clips: what is asked about.
        folder: of it all.
        seed: of the words.
        captions_of_all: a caption for each question, else one for each clip.

    Returns:
        mixture: a YAML file for `vxp-data prune`.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {"choice": [], "caption": []}
    for number, clip in enumerate(clips):
        name = f"{number:05d}.mp4"
        write_clip(clip.frames_THWC, folder / "videos" / name)
        for at, (key, answer) in enumerate(clip.answers.items()):
            words, options = QUESTIONS[key]
            listed = " ".join(f"({a}) {b}" for a, b in zip(LETTERS, options, strict=True))
            told = [("choice", f"{words} {listed}", LETTERS[options.index(answer)])]
            if captions_of_all or at == 0:
                told.append(("caption", "Describe the video.", caption(clip, rng)))
            rows_of_clip = {
                task: {
                    "id": f"{number:05d}-{key}-{task}",
                    "video": name,
                    "conversations": [
                        {"from": "human", "value": f"<video>\n{asked}"},
                        {"from": "gpt", "value": said},
                    ],
                }
                for task, asked, said in told
            }
            for task, row in rows_of_clip.items():
                rows[task].append(row)
    return write_mixture(rows, folder)


def caption(clip: ToyClip, rng: np.random.Generator) -> str:
    """Say what a clip shows, then words drawn at random until it is as long as wanted."""
    told = clip.answers
    if "count" in told:
        said = f"Discs: {told['count']}, {told['colour']}, moving {told['direction']}."
    else:
        said = f"A disc, {told['order_first']} first and {told['order_last']} last."
    while len(said) < CAPTION_BYTES:
        said += f" {WORDS[rng.integers(len(WORDS))]}"
    return said[:CAPTION_BYTES]


def train(
    out: Path, loss: str, seed: int, steps: int, context: DistributedContext
) -> dict[str, Any]:
    """Train once, or return what was measured of a training that is done."""
    folder = out / f"{loss}-{seed}-{steps}"
    kept = folder / "figures.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    tree = read_yaml(RECIPE)
    tree["loss"] = loss
    tree["data"]["sources"][0]["uri"] = str(out / "train" / "shards")
    tree["validation"] = {
        "sources": [{"uri": str(out / "heldout" / "shards")}],
        "steps": steps // 3,
    }
    tree["run"] |= {
        "out": str(folder), "seed": seed, "steps": steps, "checkpoint_steps": steps,
    }  # fmt: skip
    began_cpu_s = time.process_time()
    done = train_mllm(MLLM_RECIPES.read(tree, str(RECIPE)), context, print)
    validations = [entry for entry in read_log(done.out / "log.jsonl") if "val/loss" in entry]
    found = {
        "loss": loss,
        "seed": seed,
        **{name: round(validations[-1][key], 4) for name, key in MEASURES.items()},
        "accuracy_by_step": {
            entry["step"]: round(entry[MEASURES["multiple_choice_accuracy"]], 4)
            for entry in validations
        },
        "cpu_minutes": round((time.process_time() - began_cpu_s) / 60, 2),
    }
    kept.write_text(json.dumps(found))
    print(f"{loss} {seed}: {found}", flush=True)
    return found


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each measure's mean of each arm and of the difference, with 95 % intervals."""
    arms = {loss: [run for run in runs if run["loss"] == loss] for loss in LOSSES}
    means: dict[str, Any] = {
        loss: {name: _interval([run[name] for run in own]) for name in MEASURES}
        for loss, own in arms.items()
    }
    minus = {
        name: _interval(
            [b[name] - a[name] for a, b in zip(arms["token"], arms["sample"], strict=True)]
        )
        for name in MEASURES
    }
    return {"means": means, "minus": minus}


def _interval(numbers: Sequence[float]) -> dict[str, float]:
    low, high = paired(numbers).interval()
    mean = statistics.fmean(numbers)
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def letter_shares(out: Path) -> dict[str, float]:
    """Return what share of the loss is letters': by either mean, and as a mean over micro-batches.

    The reference averages over the label tokens of each micro-batch, then over micro-batches: of 1
    sample that is the mean over samples, of 8 it is near the mean over tokens.
    """
    rows = json.loads((out / "train" / "caption.json").read_text())
    long = statistics.fmean(len(row["conversations"][1]["value"]) for row in rows) + 1  # its end
    short = 2  # a letter and its end
    number_M = np.random.default_rng(0).binomial(8, 0.5, _DRAWS)
    of_eight_M = number_M * short / (number_M * short + (8 - number_M) * long)
    return {
        "token": round(short / (short + long), 4),
        "sample": 0.5,
        "micro-batches of 1": 0.5,
        "micro-batches of 8": round(float(of_eight_M.mean()), 4),
    }


if __name__ == "__main__":
    main()
