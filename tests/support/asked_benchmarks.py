"""Invented benchmarks with videos, and a tiny model that is asked all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.benchmark_files import WRITERS
from support.mllm_videos import write_colours
from support.repo import ROOT
from vxp_model.cli import app
from vxp_model.eval.catalogue import load_benchmark

KEPT = ("questions.jsonl", "plans.jsonl", "answers.jsonl", "scores.json")
"""Files that must not depend on how a run came about."""


def write_benchmarks(root: Path, names: Sequence[str]) -> Path:
    """Write annotation files and videos of benchmarks, each in a folder of its name."""
    clips = [
        write_colours(root / f"{number}.mp4", num_frames=12 + 8 * number, fps=2)
        for number in range(3)
    ]
    for name in names:
        folder = root / name
        folder.mkdir()
        WRITERS[name](folder)
        videos = dict.fromkeys(one.video for one in load_benchmark(name).questions(folder))
        for number, video in enumerate(videos):
            path = folder / video
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clips[number % 3], path)
    return root


def recipe(path: Path, model: Path, root: Path, names: Sequence[str], out: Path) -> Path:
    """Write a recipe over benchmarks that lie in folders of their names."""
    rows = [f"  - {{name: {name}, data: {root / name}}}" for name in names]
    settings = [
        f"model: {model}",
        "allow_partial: true",
        "answer: {max_new_tokens: 6}",
        f"out: {out}",
        "benchmarks:",
        *rows,
    ]
    path.write_text("\n".join(settings) + "\n")
    return path


def evaluate(recipe: Path, *words: str) -> None:
    """Run `vxp-model eval` here."""
    app(["eval", str(recipe), *words], standalone_mode=False)


def started(recipe: Path, *words: str, environment: Mapping[str, str] | None = None):
    """Start `vxp-model eval` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vxp_model", "eval", str(recipe), *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(path: Path, count: int, *, limit_s: float = 120.0) -> None:
    """Wait until a file has so many lines."""
    end_s = time.monotonic() + limit_s
    while not path.is_file() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < end_s, f"{path} has not got {count} lines"
        time.sleep(0.005)


def kept_bytes(run: Path) -> dict[str, bytes]:
    """Return what must be the same in two runs, by name."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.glob("*/*"))
        if path.name in KEPT
    }
