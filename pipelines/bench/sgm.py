"""Compare semantic-guided, random and no masking in ReCoT, on a CPU.

    python pipelines/bench/sgm.py [--clips 240 --labelled 500 --steps 200 --seeds 3]

Clips are drawn in which a texture stands still and a patch moves over it in one of four ways, or
stands still too: most tokens of a frame are as in the frame before. `vxp-data` prunes (all kept),
plans and shards them; ReCoT (pipelines/video_xl_pro/sgm.yaml) is trained on the shards with each
masking and seed, all behind one tower of random weights. Then, on other clips: the top-1 of a
two-layer classifier that tells the motion from the compressed tokens, error and cosine of what is
rebuilt under one fixed random mask, and how often the masking scores a token that the patch covers
above one of the still texture (AUC: 1 always, 0.5 by chance). Which tokens the masking hid in
training follows from the scores. The record: manifests/runs/recot-sgm.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
import torch
from numpy.typing import NDArray
from sgm_clips import MOTIONS, NUM_FRAMES, SIDE_PX, Clip, draw_clip, score_auc, write_clip
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from vxp_data.cli import app
from vxp_data.engines.choose import one_engine
from vxp_data.settings.file import read_yaml
from vxp_data.settings.prune import load_config
from vxp_model.eval.probe import ProbeResult, describe, run_probe
from vxp_model.models.artefacts import load_recot
from vxp_model.models.presets import recot_preset
from vxp_model.models.recot import ReCoTModel
from vxp_model.models.siglip import load_tower
from vxp_model.modules.siglip import normalise_frames
from vxp_model.settings.probe import PROBE_RECIPES
from vxp_model.settings.recot import RECIPES
from vxp_model.train.distributed import DistributedContext, join_distributed
from vxp_model.train.recot.run import train_recot

CURATION: Final = records.ROOT / "pipelines" / "demo.yaml"
RECIPE: Final = records.ROOT / "pipelines" / "video_xl_pro" / "sgm.yaml"
LIBRARIES: Final = ("vxp", "torch", "deepspeed", "transformers", "numpy", "av", "ray")
MASKINGS: Final[dict[str, dict[str, Any]]] = {
    "semantic-guided": {},
    "random": {"pool": 1.0, "grad_mode": "none"},
    "none": {"ratio": 0.0, "grad_mode": "none"},
}
"""Settings of model.sgm. The ratio of the first two is the preset's, 0.5."""


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, shard, train, probe, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, default=240, help="clips that ReCoT is trained on")
    parser.add_argument("--labelled", type=int, default=500, help="clips that are classified")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings with each masking")
    parser.add_argument("--out", type=Path, default=Path("runs/sgm"), help="removed and made anew")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    began_s = time.monotonic()
    out: Path = args.out
    shutil.rmtree(out, ignore_errors=True)
    write_tower(out / "tower")
    draw(out / "clips", args.clips, seed=0)
    labelled = draw(out / "labelled", args.labelled, seed=1)
    shard(out)
    print(f"drawn and sharded after {time.monotonic() - began_s:.0f} s", flush=True)
    with join_distributed("cpu") as context:
        models = {
            (masking, seed): train(out, masking, seed, args.steps, context)
            for masking in MASKINGS
            for seed in range(args.seeds)
        }
    result = probe(out, list(models.values()))
    print(describe(result))
    found = figures(result, models, labelled[: len(MOTIONS) * 40], out)
    found |= {
        "clips": args.clips,
        "labelled_clips": args.labelled,
        "steps": args.steps,
        "note": args.note,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }
    path = records.write_record(
        "recot-sgm", found, argv=[sys.argv[0], *(argv or sys.argv[1:])], libraries=LIBRARIES
    )
    for masking, row in found["maskings"].items():
        print(f"{masking:<16} top-1 {row['top1_mean']:.3f}, score AUC {row['score_auc_mean']:.3f}")
    print(f"record: {path}")


def write_tower(folder: Path) -> None:
    """Write a tower of random weights, of the tiny preset's shape."""
    vision = recot_preset("tiny").vision
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        image_size=vision.image_px,
        patch_size=vision.patch_px,
        hidden_size=vision.width,
        intermediate_size=vision.mlp_width,
        num_attention_heads=vision.num_heads,
        num_hidden_layers=vision.layer,
    )
    SiglipVisionModel(config).save_pretrained(folder)


def draw(folder: Path, count: int, *, seed: int) -> list[Clip]:
    """Draw and encode clips, as many of each motion, in one folder a motion."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        motion = list(MOTIONS)[number % len(MOTIONS)]
        clips.append(draw_clip(motion, rng))
        write_clip(clips[-1], folder / motion / f"{number:05d}.mp4")
    return clips


def shard(out: Path) -> None:
    """Prune, all kept; plan every frame; write shards of images; in one Ray."""
    run, recipe = str(out / "run"), str(CURATION)
    with one_engine(load_config(CURATION, []).config.cluster):
        curate("prune", str(out / "clips"), "--out", run, "--recipe", recipe, "--keep", "1.0",
               "--encoder", "thumbnail")  # fmt: skip
        curate("sample", run, "--set", "sampling.policy=uniform_n",
               "--set", f"sampling.num_frames={NUM_FRAMES}")  # fmt: skip
        curate("shard", run, "--out", str(out / "shards"), "--payload", "frames",
               "--set", f"shard.frame_px={SIDE_PX}")  # fmt: skip


def curate(*words: str) -> None:
    """Run a command of vxp-data here."""
    app(list(words), standalone_mode=False)


def train(out: Path, masking: str, seed: int, steps: int, context: DistributedContext) -> Path:
    """Train once; return the model's folder."""
    tree = read_yaml(RECIPE)
    tree["model"]["sgm"] = MASKINGS[masking]
    tree["tower"] = {"source": str(out / "tower"), "cache_dir": str(out / "cache")}
    tree["data"]["sources"][0]["uri"] = str(out / "shards")
    tree["run"] |= {"out": str(out / masking / str(seed)), "seed": seed, "steps": steps,
                    "checkpoint_steps": steps, "picture_steps": steps}  # fmt: skip
    began_s = time.monotonic()
    done = train_recot(RECIPES.read(tree, str(RECIPE)), context, lambda _: None)
    took_s = time.monotonic() - began_s
    print(f"{masking} {seed}: loss {done.final_loss:.4f}, {took_s:.0f} s", flush=True)
    return done.model


def probe(out: Path, models: Sequence[Path]) -> ProbeResult:
    """Read the motion out of the tower's tokens and out of every model's."""
    tree = {
        "preset": "tiny",
        "tower": {"source": str(out / "tower")},
        "models": [str(model) for model in models],
        "data": {"train": str(out / "labelled"), "num_frames": NUM_FRAMES, "test_share": 0.33},
        "cells": 2,
        "over_time": "mean",  # the order of frames must be in the tokens themselves
        "mlp": {"hidden": 128, "epochs": 60, "batch": 64, "lr": 0.003},
        "device": "cpu",
        "out": str(out / "probe"),
    }
    return run_probe(PROBE_RECIPES.read(tree, "probe").config, print)


def figures(
    result: ProbeResult, models: dict[tuple[str, int], Path], clips: Sequence[Clip], out: Path
) -> dict[str, Any]:
    """Compose the record's figures."""
    tower_row, *rows = result.rows
    features_FCHW = tower_features(clips, out / "tower")
    maskings: dict[str, Any] = {}
    for (masking, _), row in zip(models, rows, strict=True):
        own = maskings.setdefault(masking, {"top1": [], "mse": [], "cosine": [], "score_auc": []})
        model = load_recot(row.features)
        own["top1"].append(round(row.mean_accuracy, 4))
        own["mse"].append(round(row.mse or 0.0, 5))
        own["cosine"].append(round(row.cosine or 0.0, 5))
        own["score_auc"].append(round(score_auc(scores(model, features_FCHW), clips), 4))
    for own in maskings.values():
        for name in ("top1", "mse", "cosine", "score_auc"):
            own[f"{name}_mean"] = round(statistics.fmean(own[name]), 4)
            own[f"{name}_spread"] = round(statistics.pstdev(own[name]), 4)
    cover_N = np.concatenate([clip.cover_TN.ravel() for clip in clips])
    return {
        "siglip_top1": round(tower_row.mean_accuracy, 4),
        "chance_top1": round(1 / len(result.classes), 4),
        "still_tokens_share": round(float((cover_N == 0).mean()), 4),
        "maskings": maskings,
    }


@torch.no_grad()
def tower_features(clips: Sequence[Clip], folder: Path) -> Tensor:
    """Run the tower over the frames of clips, one clip after another."""
    tower = load_tower(recot_preset("tiny").vision, source=folder)
    frames_FHWC = torch.from_numpy(np.concatenate([clip.frames_THWC for clip in clips]))
    tokens_FNC: Tensor = tower(normalise_frames(frames_FHWC))
    side = recot_preset("tiny").grid
    return tokens_FNC.transpose(1, 2).reshape(len(frames_FHWC), -1, side, side)


@torch.no_grad()
def scores(model: ReCoTModel, features_FCHW: Tensor) -> NDArray[np.float32]:
    """Return the masking's score of each token: [F, N]."""
    groups = model.grouper([NUM_FRAMES] * (len(features_FCHW) // NUM_FRAMES))
    features_FNC = features_FCHW.flatten(2).transpose(1, 2)
    scores_GTN = model.sgm.scores(
        groups.gather(features_FNC), prev_BNC=features_FNC[groups.previous_G]
    )
    scores_FN: NDArray[np.float32] = scores_GTN.flatten(0, 1).numpy()
    return scores_FN


if __name__ == "__main__":
    main()
