"""Show that the benchmarks measure what they should, with a model whose ability is known.

    python pipelines/bench/toy.py --out runs/toy                       # trains it: minutes
    python pipelines/bench/eval_toy.py --model runs/toy/video/model

The toy model of toy.py answers questions about drawn clips. The same questions about the clips it
was not trained on are written in MLVU's and VNBench's layouts and asked through `vxp-model eval`:
read by the benchmarks' own loaders, answered from the video files, parsed and scored as published.
The share of right answers has to be that of the toy's own evaluation, which reads shards and
compares tokens; the shards hold JPEG images of the same clips, so that an answer or two may differ.
With `--shards runs/toy/heldout/video/shards`, the model is asked about those images too, without
benchmark or harness. Records: manifests/runs/eval-toy.json, and manifests/runs/selector-sweep.json
for the paper's Figure 7 (visual tokens kept: 100, 70, 50, 30, 10 %) on the same questions.

VNBench asks every question four times, its options in other orders. The toy has learned that red
is A; so all four tries have the toy's own order here, and a sample is right as often as a question.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import records
from toy import PARTS
from toy_clips import FPS, LETTERS, QUESTIONS, ToyClip, draw_clips, task_of, write_clip

from vxp_model import BatchRule, FrameOptions, LongVideoModel, ShardLoader
from vxp_model.cli import app

LIBRARIES: Final = ("vxp", "torch", "transformers", "numpy", "av")
TEMPLATE: Final = "{question} {inline_options}"
"""The words of the toy's training."""
MLVU_FILES: Final = {
    "colour": ("1_plotQA", "plotQA"),
    "direction": ("3_ego", "ego"),
    "count": ("4_count", "count"),
    "order": ("5_order", "order"),
}
"""Which of MLVU's tasks stands for which of the toy's."""
VNBENCH_TYPES: Final = {
    "colour": "ret_edit1",
    "direction": "ret_insert1",
    "count": "cnt_edit1",
    "order": "ord_edit1",
}
KEEP: Final = (1.0, 0.7, 0.5, 0.3, 0.1)
"""Of the paper's Figure 7."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the layouts, ask, compare, write both records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, required=True, help="what toy.py has trained")
    parser.add_argument("--shards", type=Path, help="of the held-out clips, as toy.py wrote them")
    parser.add_argument("--clips", type=int, default=400, help="held-out clips, as toy.py's")
    parser.add_argument("--out", type=Path, default=Path("runs/eval-toy"), help="made anew")
    parser.add_argument("--note", default="", help="goes into the records")
    args = parser.parse_args(argv)
    shutil.rmtree(args.out, ignore_errors=True)
    clips = draw_clips(args.clips, seed=PARTS["heldout"])
    write_mlvu(clips, args.out / "MLVU")
    write_vnbench(clips, args.out / "VNBench")
    told = [sys.argv[0], *(argv or sys.argv[1:])]
    found = {name: ask(args, name, TEMPLATE) for name in ("mlvu", "vnbench")}
    found["mlvu, official prompt"] = ask(args, "mlvu", None)
    if args.shards is not None:
        found["shards' images"] = ask_of_shards(args.model, args.shards, clips)
    facts = {"clips": args.clips, "own_evaluation": "mllm-toy.json", "note": args.note}
    record = {"benchmarks": found, **facts, "shows": SHOWS}
    print(f"record: {records.write_record('eval-toy', record, argv=told, libraries=LIBRARIES)}")
    record = {**sweep(args), **facts, "shows": SWEEP_SHOWS}
    path = records.write_record("selector-sweep", record, argv=told, libraries=LIBRARIES)
    print(f"record: {path}")


SHOWS: Final = (
    "Loaders, frames, prompts, parsers and scores lose nothing on the way: a model of known "
    "ability gets the same share right. It says nothing about real video or the paper's model."
)
SWEEP_SHOWS: Final = (
    "That the sweep works and that answers need the tokens: the toy has eight visual tokens a "
    "clip, needs them all to count, and its selector was never trained to choose. It cannot show "
    "that a trained selector keeps what matters, which is what the paper's Figure 7 claims."
)


def write_mlvu(clips: Sequence[ToyClip], root: Path) -> None:
    """Write clips and questions as MLVU's dev set lies on the disk."""
    rows: dict[str, list[dict[str, Any]]] = {stem: [] for stem, _ in MLVU_FILES.values()}
    for number, clip in enumerate(clips):
        for key, answer in clip.answers.items():
            stem, kind = MLVU_FILES[task_of(key)]
            text, options = QUESTIONS[key]
            video = f"{number:05d}.mp4"
            path = root / "MLVU" / "video" / stem / video
            if not path.exists():
                write_clip(clip.frames_THWC, path)
            rows[stem].append(
                {
                    "video": video,
                    "duration": 2,
                    "question": text,
                    "candidates": list(options),
                    "answer": answer,
                    "question_type": kind,
                }
            )
    folder = root / "MLVU" / "json"
    folder.mkdir(parents=True)
    for stem, own in rows.items():
        (folder / f"{stem}.json").write_text(json.dumps(own, indent=1), encoding="utf-8")


def write_vnbench(clips: Sequence[ToyClip], root: Path) -> None:
    """Write clips and questions as VNBench lies on the disk, each four times."""
    rows = []
    for number, clip in enumerate(clips):
        for key, answer in clip.answers.items():
            text, options = QUESTIONS[key]
            name = f"video{number:05d}_{key}.mp4"
            write_clip(clip.frames_THWC, root / "videos" / name)
            rows += [
                {
                    "video": f"./videos/{name}",
                    "question": text,
                    "options": list(options),
                    "gt": answer,
                    "gt_option": LETTERS[options.index(answer)],
                    "needle_time": [],
                    "length": 2,
                    "type": VNBENCH_TYPES[task_of(key)],
                    "try": attempt,
                }
                for attempt in range(4)
            ]
    path = root / "VNBench-main-4try.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def ask(args: argparse.Namespace, name: str, template: str | None) -> dict[str, Any]:
    """Ask one benchmark; return its figures."""
    data = args.out / {"mlvu": "MLVU", "vnbench": "VNBench"}[name]
    run = args.out / f"run-{name}{'' if template else '-official'}"
    began_s = time.monotonic()
    evaluate(args, name, data, run, *settings(template))
    scores = json.loads((run / name / "scores.json").read_text(encoding="utf-8"))
    return {
        "figures": [
            {key: one[key] for key in ("name", "value", "low", "high", "interval", "questions")}
            for one in scores["figures"]
        ],
        "counts": scores["counts"],
        "seconds": round(time.monotonic() - began_s, 1),
    }


def ask_of_shards(model: Path, shards: Path, clips: Sequence[ToyClip]) -> dict[str, Any]:
    """Ask about the images that the toy's own evaluation sees, in its own words."""
    session, right = LongVideoModel.load(model, device="cpu"), dict.fromkeys(QUESTIONS, 0)
    asked = dict(right)
    loader = ShardLoader(
        str(shards), batch=BatchRule(max_samples=8), frames=FrameOptions(frame_px=None)
    )
    for batch in loader:
        for sample in batch.samples:
            number, _, key = sample.sample_id.rpartition("/")[2].partition("-")
            words, options = QUESTIONS[key]
            inline = " ".join(f"({a}) {b}" for a, b in zip(LETTERS, options, strict=True))
            times_s = [frame / FPS for frame in range(len(sample.frames_THWC))]
            watched = session.watch_frames([sample.frames_THWC], time_s_F=times_s, duration_s=2.0)
            said = session.ask(watched, f"{words} {inline}", max_new_tokens=4).text
            right[key] += said == LETTERS[options.index(clips[int(number)].answers[key])]
            asked[key] += 1
    return {"questions": sum(asked.values()), "right": sum(right.values()), "by_question": right}


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Ask MLVU's layout with less and less of the visual tokens."""
    run = args.out / "run-sweep"
    axis = f"sweep={{answer.keep_ratio: {json.dumps(KEEP)}}}"
    evaluate(args, "mlvu", args.out / "MLVU", run, *settings(TEMPLATE), "--set", axis)
    found: dict[str, Any] = json.loads((run / "sweep.json").read_text(encoding="utf-8"))
    by_task = {}
    for keep in KEEP:
        path = run / f"keep_ratio={json.dumps(keep)}" / "mlvu" / "scores.json"
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        by_task[str(keep)] = {one["name"]: round(one["value"], 4) for one in figures}
    return {**found, "by_task": by_task}


def settings(template: str | None) -> list[str]:
    """Return how many frames are shown, and the prompt where it is not the benchmark's."""
    words = ["--set", "frames.num_frames=8"]
    return words if template is None else [*words, "--set", f"prompt.template='{template}'"]


def evaluate(args: argparse.Namespace, name: str, data: Path, run: Path, *words: str) -> None:
    """Run `vxp-model eval` here."""
    given = ["eval", str(args.model), "--benchmark", name, "--data", str(data), "--out", str(run)]
    app([*given, "--allow-partial", *words], standalone_mode=False)


if __name__ == "__main__":
    main()
