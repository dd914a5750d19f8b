"""Kill `vxp-data prune` at random moments, run it again until it ends, and compare the bytes.

From the command line: make chaos N=25, so many kills on each engine.

Every attempt is the real command in a process of its own, over real files. Which files are opened
is heard from the kernel (inotify), not from the program. Three ways to die, all by SIGKILL:
'driver', the command alone: its own workers must end by themselves, a Ray cluster lives on;
'worker', one worker, and the command must end by itself; 'machine', the command, its own Ray, all
workers and decoding children.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from demo_videos import make_videos

from support.compared_runs import compare, num_clips
from support.media_watch import OpenedFiles
from support.repo import ROOT

PROGRAM: Final = str(Path(sys.executable).with_name("vxp-data"))
MODES: Final = ("driver", "worker", "machine")
MARK: Final = "VXP_CHAOS"
MOMENTS: Final = ("start", "files", "files", "files", "files", "end")
"""When to kill: before any file is opened, when a random file is, or after the last one."""
_PATIENCE_S: Final = 300.0
_STARTS: Final = 5
_ALONE_S: Final = 10.0
"""How long workers may live on without the command that started them."""
_NO_RAY: Final = "timed out during startup"


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill, and what was wasted by it."""

    engine: str
    mode: str
    encoder: str
    after_s: float
    """Since the command was started."""
    moment: str
    """One of MOMENTS."""
    clips_before: int
    """With embeddings when the attempt began."""
    clips_after: int
    """With embeddings when the next attempt began, or at the end."""
    files_read: int
    """Opened in the attempt, before the kill."""
    files_read_again: int = 0
    """Of these, opened once more later."""


@dataclass(kw_only=True)
class Outcome:
    """What came of it all."""

    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    attempts: int = 0
    ray_did_not_start: int = 0
    rows: int = 0
    files_in_all_runs: int = 0
    lost: int = 0
    doubled: int = 0
    different: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Return totals, then every kill."""
        again = [kill.files_read_again for kill in self.kills]
        return {
            "kills": len(self.kills),
            "kills_by_engine": dict(sorted(Counter(k.engine for k in self.kills).items())),
            "kills_by_mode": dict(sorted(Counter(k.mode for k in self.kills).items())),
            "kills_by_encoder": dict(sorted(Counter(k.encoder for k in self.kills).items())),
            "kills_while_files_were_read": sum(1 for k in self.kills if k.files_read),
            "runs_compared": self.runs,
            "attempts": self.attempts,
            "attempts_at_which_ray_did_not_start": self.ray_did_not_start,
            "rows_compared": self.rows,
            "rows_lost": self.lost,
            "rows_doubled": self.doubled,
            "files_that_differ": self.different,
            "left_behind": self.left_behind,
            "files_in_all_runs": self.files_in_all_runs,
            "files_read_again": sum(again),
            "files_read_again_most_by_one_kill": max(again, default=0),
            "seconds": round(self.seconds),
            "each": [asdict(kill) for kill in self.kills],
        }


class Arena:
    """Videos, the command over them, and for the engine 'ray' a cluster of our own."""

    def __init__(self, folder: Path, engine: str, *, copies: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.engine = engine
        self.manifest = make_media(folder / "media", copies=copies)
        self.opened = OpenedFiles(self.manifest.parent / "videos")
        self.num_files = sum(1 for _ in (self.manifest.parent / "videos").iterdir())
        self._token = secrets.token_hex(8)
        self.env = os.environ | {
            MARK: self._token,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "RAY_AUTH_MODE": "disabled",  # a cluster of this machine's, for minutes
            "RAY_health_check_failure_threshold": "1000",  # whose only node answers late when busy
            "OMP_NUM_THREADS": "1",
        }
        self._temp = Path(tempfile.mkdtemp(prefix="vxp-chaos-", dir="/tmp"))  # sockets: short names
        self._cluster: subprocess.Popen[bytes] | None = None
        self._address = self._start_cluster() if engine == "ray" else ""

    def close(self) -> None:
        """Kill what is left of us, and only that."""
        self.opened.close()
        for pid in self.ours():
            _kill(pid)
        if self._cluster is not None:
            self._cluster.wait()
        shutil.rmtree(self._temp, ignore_errors=True)

    def command(self, out: Path, *options: str, own_ray: bool = False) -> list[str]:
        """Return the words of `vxp-data prune`."""
        where = [f"cluster.engine={self.engine}", "cluster.num_cpus=2"]
        if self.engine == "ray":
            small = "cluster.object_store_mib=100"
            where.append(small if own_ray else f"cluster.address={self._address}")
        more = [word for setting in where for word in ("--set", setting)]
        return [PROGRAM, "prune", str(self.manifest), "--out", str(out), *options, *more]

    def start(self, out: Path, *options: str, own_ray: bool = False) -> subprocess.Popen[str]:
        """Start `vxp-data prune` in a process group of its own."""
        log = out.with_suffix(".log").open("a")
        with log:
            return subprocess.Popen(
                self.command(out, *options, own_ray=own_ray),
                env=self.env,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def ours(self) -> list[int]:
        """Find the processes that we started, by a mark in their environment; ourselves not."""
        mark = f"{MARK}={self._token}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found

    def workers(self, among: Sequence[int], command: int) -> list[int]:
        """Find the workers of a command at work, or any worker where none is."""
        names = {pid: _command_line(pid) for pid in among}
        if self.engine == "local":
            return [
                p for p, name in names.items() if "spawn_main" in name and _parent(p) == command
            ]
        busy = [
            pid for pid, name in names.items() if name.startswith("ray::") and "IDLE" not in name
        ]
        return busy or [pid for pid, name in names.items() if name.startswith("ray::")]

    def _start_cluster(self) -> str:
        for attempt in range(_STARTS):
            port, log = _free_port(), self._temp / f"ray-{attempt}.log"
            command = [
                str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
                f"--port={port}", "--num-cpus=2", f"--object-store-memory={100 << 20}",
                "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={self._temp}",
            ]  # fmt: skip
            with log.open("w") as out:
                self._cluster = subprocess.Popen(
                    command, env=self.env, stdout=out, stderr=out, start_new_session=True
                )
            while self._cluster.poll() is None:
                if "--block" in log.read_text():  # says that it blocks: it has started
                    return f"127.0.0.1:{port}"
                time.sleep(0.1)
            if _NO_RAY not in log.read_text():
                break
            for pid in self.ours():
                _kill(pid)
        raise RuntimeError(f"no Ray: {log.read_text()}")


@contextmanager
def make_arena(folder: Path, engine: str, *, copies: int = 1) -> Iterator[Arena]:
    """Hold an Arena for the length of a block."""
    arena = Arena(folder, engine, copies=copies)
    try:
        yield arena
    finally:
        arena.close()


def make_media(folder: Path, *, copies: int) -> Path:
    """Draw the demo's videos, some under several names; return the manifest."""
    manifest: Path = make_videos(folder)
    rows = json.loads(manifest.read_text(encoding="utf-8"))
    originals = sorted((folder / "videos").iterdir())
    more = []
    for copy in range(1, copies):
        for path in originals:
            shutil.copyfile(path, path.with_stem(f"{path.stem}_{copy}"))
        for row in rows:
            video = Path(row["video"])
            name = video.with_stem(f"{video.stem}_{copy}").as_posix()
            more.append(row | {"id": f"{row['id']}-{copy}", "video": name})
    text = json.dumps([*rows, *more], indent=1, ensure_ascii=False)
    manifest.write_text(text + "\n", encoding="utf-8")
    return manifest


class Chaos:
    """Runs that are killed, beside one that is not."""

    def __init__(
        self, arena: Arena, options: dict[str, list[str]], moments: Sequence[str], seed: int
    ) -> None:
        self._arena = arena
        self._options = options
        self._moments = moments
        self._random = random.Random(seed)
        self.outcome = Outcome()
        self._references: dict[str, Path] = {}
        self._starting_s = self._ending_s = 0.0
        self._began_s = self._killed_s = 0.0

    def run(self, encoder: str, modes: Sequence[str]) -> None:
        """Kill one run in these ways, one after another, let it end, and compare it."""
        if encoder not in self._references:
            self._reference(encoder)
        began_s = time.monotonic()
        out = self._arena.folder / f"run-{self.outcome.runs}"
        kills: list[tuple[Kill, set[str], float]] = []
        ended = False
        for mode in modes:
            kill, ended = self._attempt(out, encoder, mode)
            if kill is not None:
                kills.append((kill, *self._read_before()))
            if ended:
                break
        if not ended:
            self._finish(out, encoder)
        for number, (kill, read, at_s) in enumerate(kills):
            again = read & set(self._arena.opened.between(at_s))
            after = kills[number + 1][0].clips_before if number + 1 < len(kills) else None
            kill = replace(kill, files_read_again=len(again))
            if after is None:
                after = num_clips(out) if kill.mode == "worker" else kill.clips_after
            self.outcome.kills.append(replace(kill, clips_after=after))
        found = compare(out, self._references[encoder])
        self.outcome.files_in_all_runs += self._arena.num_files
        self.outcome.rows += found.rows
        self.outcome.lost += found.lost
        self.outcome.doubled += found.doubled
        self.outcome.different += found.different
        self.outcome.left_behind += found.left_behind
        self.outcome.runs += 1
        self.outcome.seconds += time.monotonic() - began_s

    def _read_before(self) -> tuple[set[str], float]:
        return set(self._arena.opened.between(self._began_s, self._killed_s)), self._killed_s

    def _attempt(self, out: Path, encoder: str, mode: str) -> tuple[Kill | None, bool]:
        """Start the command, kill; tell of the kill, and whether the run has ended."""
        before = num_clips(out)
        self.outcome.attempts += 1
        self._began_s = time.monotonic()
        process = self._arena.start(out, *self._options[encoder], own_ray=mode == "machine")
        kill = None
        moment = "files" if mode == "worker" else self._random.choice(self._moments)
        if self._wait_for(moment, process, self._arena.num_files - before):
            self._killed_s = time.monotonic()
            if self._kill(process, mode):
                kill = Kill(
                    engine=self._arena.engine,
                    mode=mode,
                    encoder=encoder,
                    after_s=round(self._killed_s - self._began_s, 3),
                    moment=moment,
                    clips_before=before,
                    clips_after=0,
                    files_read=len(self._arena.opened.between(self._began_s, self._killed_s)),
                )
        if mode != "worker" and kill is not None:
            process.wait()
            return replace(kill, clips_after=num_clips(out)), False
        return kill, self._ended_well(process, out)

    def _wait_for(self, moment: str, process: subprocess.Popen[str], num_todo: int) -> bool:
        """Wait for a random moment of that kind; False: the run ended before."""
        number, wait_s = num_todo, self._random.random() * self._ending_s
        if moment == "start" or not num_todo:
            number, wait_s = 0, self._random.random() * self._starting_s
        elif moment == "files":
            number, wait_s = self._random.randint(1, num_todo), self._random.random() * 0.1
        while process.poll() is None:
            opened = self._arena.opened.opening_s(number, self._began_s)
            start_s = opened if number else self._began_s
            if start_s is not None and time.monotonic() >= start_s + wait_s:
                return True
            time.sleep(0.01)
        return False

    def _kill(self, process: subprocess.Popen[str], mode: str) -> bool:
        """Kill; False: there was nothing to kill any more."""
        if mode == "driver":
            _kill(process.pid)
            process.wait()
            return self._is_quiet()
        ours = self._arena.ours()
        if mode == "worker":
            workers = self._arena.workers(ours, process.pid)
            if workers:
                _kill(self._random.choice(workers))
            return bool(workers)
        mine = [pid for pid in ours if _session(pid) == process.pid or _is_below(pid, process.pid)]
        for pid in [process.pid, *mine]:
            _kill(pid)
        return True

    def _is_quiet(self) -> bool:
        """Wait until the workers of a dead command have ended: nobody has told them to."""
        until_s = time.monotonic() + _ALONE_S
        while self._arena.engine == "local" and (left := self._arena.ours()):
            assert time.monotonic() < until_s, [_command_line(pid) for pid in left]
            time.sleep(0.02)
        return True

    def _finish(self, out: Path, encoder: str) -> None:
        for _ in range(_STARTS):
            self.outcome.attempts += 1
            if self._ended_well(self._arena.start(out, *self._options[encoder]), out):
                return
        raise AssertionError(f"{out.name}: Ray did not start {_STARTS} times")

    def _ended_well(self, process: subprocess.Popen[str], out: Path) -> bool:
        """Wait for the end; False: Ray did not start, as on a machine with far too much to do."""
        try:
            code = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            log = out.with_suffix(".log").read_text()
            if _NO_RAY in log[-1000:]:
                self.outcome.ray_did_not_start += 1
                return False
            raise AssertionError(f"{out.name} ended with {code}:\n{log[-3000:]}")
        return True

    def _reference(self, encoder: str) -> None:
        out = self._arena.folder / f"undisturbed-{encoder}"
        began_s = time.monotonic()
        self._finish(out, encoder)
        first_s = self._arena.opened.opening_s(1, began_s)
        assert first_s is not None
        self._starting_s = first_s - began_s
        self._ending_s = time.monotonic() - self._arena.opened.last_s()
        self._references[encoder] = out


def chaos(
    arena: Arena,
    *,
    kills: int,
    encoders: dict[str, list[str]],
    seed: int,
    moments: Sequence[str] = MOMENTS,
    done: Callable[[Outcome], object] = id,
) -> Outcome:
    """Kill so many times, the modes in turn, one to three times a run, the encoders in turn.

    Args:
        arena: where.
        kills: how many.
        encoders: name to the options of the command.
        seed: of the moments.
        moments: which kinds, as often as they are named.
        done: called with the outcome after every run.
    """
    chaotic = Chaos(arena, encoders, moments, seed)
    names = list(encoders)
    plans = (("driver", "machine", "worker"), ("driver", "driver", "machine"), ("worker",))
    while (left := kills - len(chaotic.outcome.kills)) > 0:
        plan = plans[chaotic.outcome.runs % len(plans)]
        if kills <= 3:  # each mode once, also where a run ends before its next kill
            plan = plans[0][len(chaotic.outcome.kills) :]
        chaotic.run(names[chaotic.outcome.runs % len(names)], plan[:left])
        done(chaotic.outcome)
    return chaotic.outcome


def main() -> None:
    """Run, and write manifests/runs/chaos.json after every compared run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--engine", choices=["local", "ray"], action="append", help="both")
    parser.add_argument("--append", action="store_true", help="add to the record that is there")
    options = parser.parse_args()
    import records

    from support.tiny_models import write_tiny_siglip

    record = records.RUNS / "chaos.json"
    earlier = json.loads(record.read_text())["figures"] if options.append else None
    before: list[Outcome] = []

    def write(outcome: Outcome) -> None:
        figures = earlier
        for each in (*before, outcome):
            figures = add_figures(figures, each.figures())
        assert figures is not None
        argv = ["-m", "support.chaos", "--kills", options.kills, "--seed", options.seed]
        argv += ["--copies", options.copies, *(["--append"] if options.append else [])]
        argv += [word for engine in options.engine or () for word in ("--engine", engine)]
        records.write_record("chaos", figures, argv=[*map(str, argv)])
        sys.stderr.write(
            f"{figures['kills']} kills, {figures['rows_lost']} rows lost, "
            f"{figures['rows_doubled']} doubled, {len(figures['files_that_differ'])} differ\n"
        )

    with tempfile.TemporaryDirectory(prefix="vxp-chaos-") as scratch:
        checkpoint = write_tiny_siglip(Path(scratch) / "siglip")
        tiny = ["--encoder", "siglip", "--set", f"encoder.checkpoint={checkpoint}"]
        encoders = {"thumbnail": ["--encoder", "thumbnail"], "siglip": tiny}
        for engine in options.engine or ("local", "ray"):
            with make_arena(Path(scratch) / engine, engine, copies=options.copies) as arena:
                outcome = chaos(
                    arena, kills=options.kills, encoders=encoders, seed=options.seed, done=write
                )
            before.append(outcome)
    bad = any(o.lost or o.doubled or o.different or o.left_behind for o in before)
    sys.exit(1 if bad else 0)


def add_figures(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """Add the figures of two records; what only one has stays."""
    if one is None:
        return other
    total = dict(one)
    for name, value in other.items():
        before = one.get(name, type(value)())
        if isinstance(value, dict):
            total[name] = dict(sorted((Counter(before) + Counter(value)).items()))
        else:
            total[name] = max(before, value) if "most" in name else before + value
    return total


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        pid = _parent(pid)
        if pid == ancestor:
            return True
    return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
