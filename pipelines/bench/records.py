"""Run records: a benchmark's figures, with what they were measured on, as JSON in manifests/runs.

A record names hardware and versions, never a host, a user or a path of the machine.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RUNS: Final = ROOT / "manifests" / "runs"
LIBRARIES: Final = (
    "vxp",
    "av",
    "decord",
    "torchcodec",
    "numpy",
    "pyarrow",
    "ray",
    "torch",
    "open_clip_torch",
)


def write_record(
    name: str,
    figures: Mapping[str, Any],
    *,
    argv: Sequence[str],
    libraries: Sequence[str] = LIBRARIES,
    folder: Path = RUNS,
    wall_s: float | None = None,
) -> Path:
    """Write `<folder>/<name>.json`, over an older one of that name.

    Args:
        name: what was run, as a file name without its ending.
        figures: the results, JSON-serialisable.
        argv: the command, program first; of absolute paths only the last part is kept.
        libraries: distributions whose versions matter; those not installed are left out.
        folder: where it goes.
        wall_s: seconds that the run took; None: since this process began, which psutil tells.
    """
    if wall_s is None:
        import psutil  # a development package: absent where a run times itself

        wall_s = time.time() - psutil.Process().create_time()
    record = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_text(argv),
        "wall_s": round(wall_s, 1),
        "git": git_state(),
        "machine": machine(),
        "versions": versions(libraries),
        "figures": figures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def command_text(argv: Sequence[str]) -> str:
    """Return a command without this machine's paths: 'python pipelines/bench/decode.py real'."""
    return " ".join(["python", *map(_without_path, argv)])


def machine() -> dict[str, Any]:
    """Describe the hardware and the platform."""
    libc = " ".join(platform.libc_ver()).strip()
    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "platform": " ".join(filter(None, [platform.system(), platform.machine(), libc])),
    }
    torch = sys.modules.get("torch")  # loaded for this alone, it would cost seconds
    if torch is not None and torch.cuda.is_available():
        facts["gpu"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def versions(libraries: Sequence[str]) -> dict[str, str]:
    """Return the installed versions, and FFmpeg's where PyAV is among them."""
    found: dict[str, str] = {}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "av" in found:
        import av

        found["ffmpeg of av"] = av.ffmpeg_version_info
    return found


def git_state() -> dict[str, Any] | None:
    """Return the commit, and whether files differ from it; None outside a git checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {"commit": commit, "uncommitted_changes": bool(changes)} if commit else None


def _git(*command: str) -> str:
    try:
        done = subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _without_path(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return argument
    inside = path.is_relative_to(ROOT)
    return f"{option}{equals}{path.relative_to(ROOT) if inside else path.name}"
