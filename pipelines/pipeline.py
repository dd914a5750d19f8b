"""`make pipeline`: raw clips -> shards -> ReCoT -> align -> sft -> held-out rows -> an answer.

The recipes of pipelines/smoke, one after the other: those of pipelines/video_xl_pro at toy scale,
on 2 cores, without weights. ReCoT is killed once and taken up again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("agg")

from bench.records import write_record
from matplotlib import pyplot
from smoke.clips import ROWS as MIXTURE_ROWS
from smoke.clips import make_clips
from smoke.mixture_check import mixture_seen

from vxp_data.cli import app
from vxp_data.engines.choose import one_engine
from vxp_data.errors import VxpError
from vxp_data.settings.cluster import ClusterConfig
from vxp_model.train.metrics_log import read_log

SMOKE: Final = Path("runs/smoke")
CLIPS: Final = SMOKE / "clips"
RECIPES: Final = Path("pipelines/smoke")
DATA: Final = ("recot", "pretrain", "sft")
STAGES: Final = ("recot", "align", "sft")
KILL_AFTER_STEPS: Final = 25
ROWS: Final = 12
BIN: Final = Path(sys.executable).parent


class FailedError(Exception):
    """A command has failed, and has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Times:
    """Seconds of each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Time a block."""
        began_s = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - began_s, 1)


def main() -> int:
    """Run all of it, and print how long each stage took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write manifests/runs/pipeline.json")
    parser.add_argument("--note", default="", help="for the record")
    options = parser.parse_args()
    times = Times()
    try:
        with times.of("clips"):
            print(f"Drawing 26 short videos in {CLIPS} ...\n", flush=True)
            make_clips(CLIPS)
        with times.of("data"):
            make_data()
        for stage in STAGES:
            with times.of(stage):
                train(stage)
        mixture = check_mixture()
        with times.of("evaluation"):
            figures = evaluate()
        with times.of("generate"):
            generate()
    except FailedError as error:
        return error.status
    except VxpError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    total_s = round(sum(times.seconds.values()), 1)
    print("\n" + ", ".join(f"{name} {s:.0f} s" for name, s in times.seconds.items()))
    print(f"From raw clips to an answer in {total_s:.0f} s. Everything lies in {SMOKE}.")
    if options.record:
        facts = {"wall_s": total_s, "stages_s": times.seconds, "held_out": figures}
        facts |= {"mixture": mixture}
        facts |= accounts() | ({"note": options.note} if options.note else {})
        libraries = ("vxp", "av", "ray", "torch", "deepspeed", "transformers", "numpy", "pyarrow")
        print(write_record("pipeline", facts, argv=sys.argv, libraries=libraries))
    return 0


def make_data() -> None:
    """Run the data recipes with one engine; what an earlier run has made is not made again."""
    with one_engine(ClusterConfig(num_cpus=2)):
        for name in DATA:
            recipe = str(RECIPES / f"{name}_data.yaml")
            print(f"$ vxp-data run {recipe}", flush=True)
            app(["run", recipe], standalone_mode=False)
            print()


def train(stage: str) -> None:
    """Train a stage from the beginning; kill the first one once, and show its loss."""
    out = SMOKE / f"model-{stage}"
    if out.exists():
        shutil.rmtree(out)
    recipe = str(RECIPES / f"{stage}.yaml")
    if stage != "recot":
        vxp_model("train", recipe)
        return
    print(f"$ vxp-model recot {recipe}", flush=True)
    killed_at = kill_in_the_middle([str(BIN / "vxp-model"), "recot", recipe], out / "log.jsonl")
    print(f"\nKilled with SIGKILL after step {killed_at}. The same command again:\n", flush=True)
    vxp_model("recot", recipe)
    losses = [entry["reconstruction_loss"] for entry in read_log(out / "log.jsonl")]
    print("\n" + curve(losses, mark=killed_at))
    draw(losses, out / "loss.png", mark=killed_at)
    print(f"The curve as an image: {out / 'loss.png'}; what was masked: {out / 'masks'}/\n")


def check_mixture() -> dict[str, Any]:
    """Check that fine-tuning saw both datasets of its mixture, at their rows and in their shares.

    Raises:
        ExpectationError: it did not.
    """
    log = SMOKE / "model-sft" / "log.jsonl"
    seen = mixture_seen(MIXTURE_ROWS, SMOKE / "sft" / "shards", log)
    seen.require()
    print("\nThe mixture that fine-tuning saw:")
    print("\n".join(seen.lines()), flush=True)
    return {"rows": dict(seen.sharded), "seen": dict(seen.seen)}


def evaluate() -> dict[str, Any]:
    """Ask the trained model the rows about videos that it has never seen."""
    out = SMOKE / "evaluation.json"
    words = [str(RECIPES / "evaluate.py"), str(CLIPS / "evaluation.json")]
    words += [str(SMOKE / "model-sft" / "model"), "--json", str(out)]
    call([sys.executable, *words], shown=f"python {' '.join(words)}")
    print("The model is tiny, its tower and language model began at random: this shows that the")
    print("rows are asked and counted, not that it has learned to see.")
    figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))["figures"]
    return figures


def generate() -> None:
    """Ask one question."""
    video = str(CLIPS / "videos" / "rings.mp4")
    ask = ["--video", video, "--frames", "16", "--prompt", "Describe the video."]
    vxp_model("generate", str(SMOKE / "model-sft" / "model"), *ask, "--max-new-tokens", "40")


def accounts() -> dict[str, Any]:
    """Return what the data recipes have counted."""
    caches = {name: json.loads((SMOKE / name / "recipe.json").read_text()) for name in DATA}
    return {f"{name}_data": cache["accounting"] for name, cache in caches.items()}


def vxp_model(*words: str) -> None:
    """Run a command of vxp-model; one that fails has said why."""
    call([str(BIN / "vxp-model"), *words], shown=f"vxp-model {' '.join(words)}")


def call(command: Sequence[str], *, shown: str) -> None:
    """Run a command, shown as a user would type it."""
    print(f"\n$ {shown}", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        raise FailedError(status)


def kill_in_the_middle(command: Sequence[str], log: Path) -> int:
    """Train for some steps, then kill; return the last step that was logged."""
    process = subprocess.Popen(command, start_new_session=True)
    while len(read_log(log)) < KILL_AFTER_STEPS:
        if process.poll() is not None:
            raise FailedError(process.returncode or 1)
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return int(read_log(log)[-1]["step"])


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
