"""`make demo-train`: train ReCoT on the demo's shards, kill it in the middle, go on, show the loss.

Then the two stages of Video-XL-Pro on what it has left, and a question to the result.

Runs the demo first, where its shards are missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot

from vxp_model.train.journal import read_log

SHARDS = Path("runs/demo-shards")
OUT = Path("runs/demo-recot")
SFT = Path("runs/demo-sft")
VIDEO = Path("runs/demo-videos/videos/pan_bricks.mp4")
RECIPE = "pipelines/video_xl_pro/demo_recot.yaml"
KILL_AFTER_STEPS = 25
ROWS = 12
BIN = Path(sys.executable).parent


def main() -> int:
    """Make what is missing, train, kill, train on, show."""
    if not (SHARDS / "index.json").is_file():
        status = subprocess.run([sys.executable, "pipelines/demo.py"], check=False).returncode
        if status:
            return status
        print()
    if OUT.exists():
        shutil.rmtree(OUT)
    command = [str(BIN / "vxp-model"), "recot", RECIPE]
    print(f"$ vxp-model recot {RECIPE}", flush=True)
    killed_at = kill_in_the_middle(command)
    if killed_at is None:
        return 1
    print(f"\nKilled with SIGKILL after step {killed_at}. The same command again:\n", flush=True)
    print(f"$ vxp-model recot {RECIPE}", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        return status
    losses = [entry["reconstruction_loss"] for entry in read_log(OUT / "log.jsonl")]
    print("\n" + curve(losses, mark=killed_at))
    draw(losses, OUT / "loss.png", mark=killed_at)
    print(f"\nThe curve as a picture: {OUT / 'loss.png'}; what was masked: {OUT / 'masks'}/")
    print(f"The model and its card: {OUT / 'model'}/")
    return train_on_and_ask()


def train_on_and_ask() -> int:
    """Train both stages of the language model on what ReCoT has left, then ask a question."""
    for folder in (Path("runs/demo-align"), SFT):
        if folder.exists():
            shutil.rmtree(folder)
    commands = [
        ["train", f"pipelines/video_xl_pro/demo_{stage}.yaml"] for stage in ("align", "sft")
    ]
    if VIDEO.is_file():  # else the demo was over the user's own videos
        ask = ["--video", str(VIDEO), "--frames", "16", "--prompt", "Describe the video."]
        commands.append(["generate", str(SFT / "model"), *ask, "--max-new-tokens", "40"])
    for words in commands:
        print(f"\n$ vxp-model {' '.join(words)}", flush=True)
        status = subprocess.run([str(BIN / "vxp-model"), *words], check=False).returncode
        if status:
            return status
    return 0


def kill_in_the_middle(command: Sequence[str]) -> int | None:
    """Train for some steps, then kill; give the last step that was logged, None if it failed."""
    process = subprocess.Popen(command, start_new_session=True)
    while len(read_log(OUT / "log.jsonl")) < KILL_AFTER_STEPS:
        if process.poll() is not None:
            return None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return int(read_log(OUT / "log.jsonl")[-1]["step"])


def curve(losses: Sequence[float], *, mark: int) -> str:
    """Draw losses with characters, one column a step, '|' where the run was killed."""
    low, high = min(losses), max(losses)
    row_of = [round((high - loss) / (high - low or 1) * (ROWS - 1)) for loss in losses]
    lines = []
    for row in range(ROWS):
        value = high - (high - low) * row / (ROWS - 1)
        cells = ("*" if at == row else "|" if step == mark else " "
                 for step, at in enumerate(row_of, 1))  # fmt: skip
        lines.append(f"{value:7.3f} {''.join(cells)}".rstrip())
    lines.append(f"{'step':>7} 1{len(losses):>{len(losses) - 1}}")
    return "\n".join(["reconstruction loss; | is where it was killed", *lines])


def draw(losses: Sequence[float], path: Path, *, mark: int) -> None:
    """Draw losses into a PNG."""
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot(range(1, len(losses) + 1), losses)
    axes.axvline(mark, linestyle=":", color="0.5", label=f"killed after step {mark}")
    axes.set_xlabel("step")
    axes.set_ylabel("reconstruction loss")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
