"""Time every command over the demo's 26 clips: what is paid before and beside the work.

    python pipelines/bench/startup.py [--engine local --engine ray] [--repeats 3]

What is counted is the wall time of a command and the CPU time of all its processes, on two cores;
those that outlive it, as Ray's daemons do, count to their end. `first` is the first time here,
`warm` the median of the others; each prune has a fresh directory. `no_bytecode` is a warm run with
Python's bytecode hidden, as where packages were installed without it; `busy` one with two busy
loops beside it. `script` is what one writes by hand: rivals/by_hand.py, with the same encoder.

`siglip` is the small SigLIP of random weights that side_by_side.py takes too. An engine `none` is
whatever a command takes by itself.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import records
from marked_tree import FailedError, Seconds, run_marked
from rich.console import Console
from rich.table import Table

CORES: Final = 2
LIMIT_S: Final = 600.0
COMMAND: Final = str(Path(sys.executable).with_name("vxp-data"))
SCRIPT: Final = Path(__file__).parent / "rivals" / "by_hand.py"
RECIPE: Final = records.ROOT / "pipelines" / "demo.yaml"
ENCODERS: Final = ("thumbnail", "siglip", "efficientnet_lite0")
NO_ENGINE: Final = "none"
HAND: Final = "script"
BUSY_LOOP: Final = "while True: pass"

Times = dict[str, dict[str, Any]]
"""By condition: what a command took, or how it failed."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The clips, and where everything is written."""

    folder: Path
    checkpoint: Path
    repeats: int

    @property
    def manifest(self) -> Path:
        """The demo's annotations."""
        return self.folder / "annotations.json"

    def fresh(self, name: str) -> Path:
        """Return a path at which nothing is."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def encoder_words(self, encoder: str) -> list[str]:
        """Return the options of prune for an encoder."""
        words = ["--encoder", encoder]
        if encoder == "siglip":
            words += ["--set", f"encoder.checkpoint={self.checkpoint}"]
        return words

    def prune(self, encoder: str, engine: str) -> list[str]:
        """Return a prune into a fresh directory."""
        out = self.fresh(f"run-{encoder}")
        words = [COMMAND, "prune", str(self.manifest), "--out", str(out), "--recipe", str(RECIPE)]
        return [*words, *self.encoder_words(encoder), *engine_words(engine)]

    def by_hand(self, encoder: str) -> list[str]:
        """Return the script."""
        words = [sys.executable, str(SCRIPT), str(self.folder / "videos"), encoder]
        return [*words, str(self.folder / "by-hand.json"), str(self.checkpoint)]

    def shard(self, engine: str) -> list[str]:
        """Return a shard of the run over thumbnails into a fresh directory."""
        words = [COMMAND, "shard", str(self.run), "--out", str(self.fresh("shards"))]
        return [*words, "--world-size", "2", *engine_words(engine)]

    def retry(self, engine: str) -> list[str]:
        """Return a retry of the run's quarantined file, which is cut off and will stay so."""
        words = [COMMAND, "retry", str(self.run), "--reason", "truncated"]
        return [*words, *engine_words(engine)]

    @property
    def run(self) -> Path:
        """The run over thumbnails that was made last."""
        return self.folder / "run-thumbnail"

    def without_engine(self) -> dict[str, list[str]]:
        """Return the commands that start no engine."""
        run = str(self.run)
        return {
            "--help": [COMMAND, "--help"],
            "decide": [COMMAND, "decide", run, "--keep", "0.5"],
            "plan": [COMMAND, "plan", run],
            "report": [COMMAND, "report", run],
            "verify": [COMMAND, "verify", run],
        }

    def time_once(self, command: Sequence[str]) -> Seconds:
        """Run a command.

        Raises:
            FailedError: see `run_marked`.
        """
        log = self.folder / "log.txt"
        return run_marked(command, log, limit_s=LIMIT_S, cwd=self.folder)

    def time_often(self, command: Callable[[], Sequence[str]]) -> Times:
        """Run a command as often as asked for: first and warm."""
        taken: list[Seconds] = []
        try:
            taken.extend(self.time_once(command()) for _ in range(self.repeats))
        except FailedError as error:
            return {"first" if not taken else "warm": {"failed": str(error)}}
        return {"first": _facts(taken[:1]), "warm": _facts(taken[1:] or taken)}

    def time_under(self, command: Callable[[], Sequence[str]]) -> Times:
        """Run a command once without bytecode, and once on a busy machine."""
        found: Times = {}
        for name, condition in (("no_bytecode", _without_bytecode), ("busy", _busy)):
            with condition(self.folder):
                try:
                    found[name] = _facts([self.time_once(command())])
                except FailedError as error:
                    found[name] = {"failed": str(error)}
        return found


def engine_words(engine: str) -> list[str]:
    """Return the option that names an engine."""
    return [] if engine == NO_ENGINE else ["--engine", engine]


def _facts(taken: Sequence[Seconds]) -> dict[str, Any]:
    return {
        "wall_s": round(statistics.median(one.wall_s for one in taken), 3),
        "cpu_s": round(statistics.median(one.cpu_s for one in taken), 3),
    }


@contextmanager
def _without_bytecode(folder: Path) -> Iterator[None]:
    """Have Python look for bytecode where there is none, and write none."""
    hidden = {"PYTHONPYCACHEPREFIX": str(folder / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    before = os.environ.copy()
    os.environ.update(hidden)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _busy(_: Path) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(CORES)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def time_all(
    bench: Bench, engines: Sequence[str], encoders: Sequence[str]
) -> dict[str, dict[str, Times]]:
    """Time every command; by command, then by engine, then by condition."""
    found: dict[str, dict[str, Times]] = {}

    def note(command: str, engine: str, times: Times) -> None:
        found.setdefault(command, {}).setdefault(engine, {}).update(times)
        print(f"{command}, {engine}: {times}", file=sys.stderr, flush=True)

    for encoder in encoders:
        name = f"prune {encoder}"
        takers = {HAND: lambda encoder=encoder: bench.by_hand(encoder)}
        for engine in engines:
            takers[engine] = lambda engine=engine, encoder=encoder: bench.prune(encoder, engine)
        for taker, command in takers.items():
            note(name, taker, bench.time_often(command))
            note(name, taker, bench.time_under(command))
    if "thumbnail" in encoders:
        for engine in engines:
            note("shard", engine, bench.time_often(lambda engine=engine: bench.shard(engine)))
            note("retry", engine, bench.time_often(lambda engine=engine: bench.retry(engine)))
        for name, words in bench.without_engine().items():
            note(name, NO_ENGINE, bench.time_often(lambda words=words: words))
    return found


def print_results(console: Console, found: dict[str, dict[str, Times]]) -> None:
    """Print a line for each command, engine and condition."""
    table = Table("command", "engine", "condition", "wall s", "CPU s")
    for command, engines in found.items():
        for engine, times in engines.items():
            for condition, facts in times.items():
                wall = facts.get("failed") or f"{facts['wall_s']:.2f}"
                cpu = "" if "failed" in facts else f"{facts['cpu_s']:.2f}"
                table.add_row(command, engine, condition, wall, cpu)
    console.print(table)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", action="append", metavar="NAME", help="[none]")
    parser.add_argument("--encoder", action="append", choices=ENCODERS, help="[all]")
    parser.add_argument("--repeats", type=int, default=3, help="of each command, the first too")
    parser.add_argument("--out", type=Path, default=records.RUNS / "startup.json")
    options = parser.parse_args(argv)
    options.engine = options.engine or [NO_ENGINE]
    options.encoder = options.encoder or list(ENCODERS)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Make the clips, time all commands, write the record."""
    options = parse(argv)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    sys.path[:0] = [str(records.ROOT / "pipelines"), str(records.ROOT / "tests")]
    demo = importlib.import_module("demo_videos")
    tiny_models = importlib.import_module("support.tiny_models")
    with tempfile.TemporaryDirectory(prefix="vxp-bench-") as temporary:
        folder = Path(temporary)
        demo.make_videos(folder)
        checkpoint = folder / "siglip"
        if "siglip" in options.encoder:
            tiny_models.write_tiny_siglip(checkpoint, image_px=384)
        num_clips = len(list((folder / "videos").iterdir()))
        found = time_all(
            Bench(folder, checkpoint, options.repeats), options.engine, options.encoder
        )
    print_results(Console(width=None if sys.stdout.isatty() else 150), found)
    figures = {"cores": CORES, "clips": num_clips, "repeats": options.repeats, "commands": found}
    words = ["pipelines/bench/startup.py", "--repeats", str(options.repeats)]
    for name in ("engine", "encoder"):
        words += [word for value in getattr(options, name) for word in (f"--{name}", value)]
    records.write_record(options.out.stem, figures, argv=words, folder=options.out.parent)


if __name__ == "__main__":
    main()
