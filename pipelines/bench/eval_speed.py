"""Time answers: every video encoded once, beside asking each question alone; what our part costs.

    python pipelines/bench/eval_speed.py

A few videos of 64 frames with several questions each, written in MLVU's layout, and the tiny preset
with random weights: a model so small that whatever surrounds it shows. In turn, several times:

* harness: `vxp-model eval` as users run it, in this process, from the files to merged answers;
* direct: a script without a harness: load the model, decode and encode each video, `ask`;
* alone: the video is encoded anew for every question, as harnesses do that know no videos.

The harness's own cost is what it takes beyond `direct`, for a question, beside the seconds that
generation takes. The record: manifests/runs/eval-speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
import torch
from toy_clips import SIDE_PX, write_clip
from transformers import logging

from vxp_model.eval.benchmarks.base import Shown
from vxp_model.eval.benchmarks.mlvu import Mlvu
from vxp_model.eval.evaluate import run_recipe
from vxp_model.eval.media import VideoReader
from vxp_model.eval.recipe import read_eval
from vxp_model.eval.split import Part
from vxp_model.eval.store import BenchmarkFolder
from vxp_model.inference.session import LongVideoModel, WatchedVideo
from vxp_model.models.byte_tokenizer import byte_tokenizer
from vxp_model.models.processor import VideoXLProProcessor
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

LIBRARIES: Final = ("vxp", "torch", "transformers", "numpy", "av")
OPTIONS: Final = ("red", "green", "blue", "yellow")
NEW_TOKENS: Final = 16


def main(argv: Sequence[str] | None = None) -> None:
    """Write videos and questions, time the arms in turn, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--questions", type=int, default=8, help="about each video")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/eval-speed"), help="made anew")
    parser.add_argument("--note", default="", help="goes into the record")
    args = parser.parse_args(argv)
    logging.disable_progress_bar()
    shutil.rmtree(args.out, ignore_errors=True)
    data, model = args.out / "data", write_model(args.out / "model")
    write_questions(data, args)
    prompts = prompts_of(data)
    arms: dict[str, Callable[[], None]] = {
        "harness": lambda: harness(model, data, args),
        "direct": lambda: direct(model, data, prompts, args.frames),
        "alone": lambda: direct(model, data, prompts, args.frames, anew=True),
    }
    for arm in arms.values():  # imports, first decoding, threads
        arm()
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for _ in range(args.rounds):
        for name, arm in arms.items():
            seconds[name].append(timed(arm))
    found = figures(seconds, args) | {"answers": answer_seconds(args.out / "run")}
    found |= {"note": args.note}
    path = records.write_record(
        "eval-speed", found, argv=[sys.argv[0], *(argv or sys.argv[1:])], libraries=LIBRARIES
    )
    print(json.dumps(found, indent=1))
    print(f"record: {path}")


def figures(seconds: dict[str, list[dict[str, float]]], args: argparse.Namespace) -> dict[str, Any]:
    """Return medians of each arm and the ratios between arms of one round."""
    number = args.videos * args.questions
    rounds = range(args.rounds)
    own = {
        name: {
            kind: round(statistics.median(one[kind] for one in rows), 3) for kind in ("cpu", "wall")
        }
        for name, rows in seconds.items()
    }
    beyond = [seconds["harness"][i]["cpu"] - seconds["direct"][i]["cpu"] for i in rounds]
    return {
        "videos": args.videos,
        "questions": number,
        "frames": args.frames,
        "rounds": args.rounds,
        "seconds": own,
        "answers_per_s": {name: round(number / one["wall"], 2) for name, one in own.items()},
        "alone_to_harness_cpu": round(
            statistics.median(
                seconds["alone"][i]["cpu"] / seconds["harness"][i]["cpu"] for i in rounds
            ),
            2,
        ),
        "harness_beyond_direct_cpu_s_per_question": round(statistics.median(beyond) / number, 5),
        "direct_cpu_s_per_question": round(own["direct"]["cpu"] / number, 5),
    }


def timed(work: Callable[[], None]) -> dict[str, float]:
    """Return CPU seconds of this process and its children, and seconds on the clock."""
    began_s, began_cpu_s = time.monotonic(), cpu_s()
    work()
    return {"wall": time.monotonic() - began_s, "cpu": cpu_s() - began_cpu_s}


def cpu_s() -> float:
    """Return CPU seconds so far; children count once they have ended, as all have between arms."""
    return sum(os.times()[:4])


def write_model(folder: Path) -> Path:
    """Write the tiny preset with random weights."""
    config = video_xl_pro_preset("tiny")
    torch.manual_seed(0)
    VideoXLProForConditionalGeneration(config).save_pretrained(folder)
    VideoXLProProcessor.for_model(config, byte_tokenizer()).save_pretrained(folder)
    return folder


def write_questions(data: Path, args: argparse.Namespace) -> None:
    """Write videos of noise, and questions in MLVU's layout."""
    rows = []
    draw = np.random.default_rng(0)
    for number in range(args.videos):
        name = f"{number}.mp4"
        frames = draw.integers(0, 256, (args.frames, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        write_clip(frames, data / "MLVU" / "video" / "1_plotQA" / name)
        rows += [
            {
                "video": name,
                "duration": args.frames / 4,
                "question": f"What colour is thing {question}?",
                "candidates": list(OPTIONS),
                "answer": OPTIONS[question % 4],
                "question_type": "plotQA",
            }
            for question in range(args.questions)
        ]
    path = data / "MLVU" / "json" / "1_plotQA.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def settings(model: Path, data: Path, args: argparse.Namespace) -> Any:
    """Return the evaluation's settings."""
    words = [
        f"frames.num_frames={args.frames}",
        f"answer.max_new_tokens={NEW_TOKENS}",
        "device=cpu",
    ]
    told = {"out": str(args.out / "run"), "allow_partial": True}
    return read_eval(str(model), words, benchmark="mlvu", data=str(data), told=told)


def harness(model: Path, data: Path, args: argparse.Namespace) -> None:
    """Answer from files to figures."""
    shutil.rmtree(args.out / "run", ignore_errors=True)
    run_recipe(settings(model, data, args), Part(), lambda _: None, lambda _: None, {})


def prompts_of(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what is asked about each video, as the harness asks it."""
    benchmark, shown = Mlvu(), Shown(time_s=(0.0,), duration_s=1.0, width_px=1, height_px=1)
    found: dict[str, list[dict[str, Any]]] = {}
    for question in benchmark.questions(data):
        prompt = benchmark.prompt(question, shown, "official")
        found.setdefault(question.video, []).append(
            {"question": prompt.text, "system": prompt.system, "prime": prompt.reply_start}
        )
    return found


def direct(
    model: Path,
    data: Path,
    prompts: dict[str, list[dict[str, Any]]],
    frames: int,
    *,
    anew: bool = False,
) -> None:
    """Watch each video once, or anew for every question, and ask; one decoding process for all."""
    session = LongVideoModel.load(model, device="cpu")
    with closing(VideoReader()) as reader:
        for video, own in prompts.items():
            watched = None
            for prompt in own:
                if watched is None or anew:
                    watched = watch(session, reader, data / video, frames)
                session.ask(watched, max_new_tokens=NEW_TOKENS, **prompt)


def watch(session: LongVideoModel, reader: VideoReader, path: Path, frames: int) -> WatchedVideo:
    """Decode and encode a video."""
    with reader.open(str(path), frame_px=session.model.config.vision.image_px) as file:
        plan = file.plan(num_frames=frames, max_frames=frames)
        return session.watch_frames(
            file.pieces(plan.frame_index_F, piece_frames=session.piece_frames),
            time_s_F=plan.time_s_F.tolist(),
            duration_s=file.probe.media.duration_s,
        )


def answer_seconds(run: Path) -> dict[str, float]:
    """Return the seconds that the last run's generation took, by stage, for a question."""
    rows = [
        json.loads(line)["seconds"]
        for line in (BenchmarkFolder(run, "mlvu").path / "timings.jsonl").read_text().splitlines()
    ]
    own = [row for row in rows if "decode" in row]
    return {
        stage: round(sum(row[stage] for row in own) / len(own), 5)
        for stage in ("select", "prefill", "decode")
    }


if __name__ == "__main__":
    main()
