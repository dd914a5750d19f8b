"""Copies of short videos, made with ffmpeg, and pairs that were labelled by eye: near-duplicates.

The sources are the short videos of a folder (VXP_CORPUS/real) and those that the demo draws; a copy
is named SOURCE--COPY.
"""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from records import ROOT

MAX_SOURCE_BYTES: Final = 3 << 20
MAX_SOURCE_PIXELS: Final = 1280 * 720
MAX_SOURCE_S: Final = 40.0
X264: Final = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-an"]
EVEN: Final = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
TRANSFORMATIONS: Final[dict[str, list[str]]] = {
    "re_encoded_half_size": ["-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", "-crf", "35"],
    "cropped_5_percent": ["-vf", f"crop=iw*0.95:ih*0.95,{EVEN}", "-crf", "23"],
    "logo": ["-vf", f"drawbox=x=iw*0.84:y=ih*0.04:w=iw*0.12:h=ih*0.1:color=red:t=fill,{EVEN}"],
    "mirrored": ["-vf", f"hflip,{EVEN}"],
    "trimmed_10_percent": ["-ss", "0.06", "-t", "0.9", "-vf", EVEN],
    "middle_half": ["-ss", "0.25", "-t", "0.5", "-vf", EVEN],
    "middle_quarter": ["-ss", "0.4", "-t", "0.25", "-vf", EVEN],
}
"""By name; -ss and -t are shares of the duration."""


def drawn_videos(folder: Path) -> dict[str, Path]:
    """Draw the demo's videos; without those that it makes of another one."""
    sys.path.insert(0, str(ROOT / "pipelines"))
    demo = importlib.import_module("demo_videos")
    videos = demo.make_videos(folder).parent / "videos"
    derived = {demo.COPY_OF[1], demo.CUT_FROM[1]}
    paths = sorted(path for path in videos.iterdir() if path.name not in derived)
    return {path.name.replace(".", "_"): path for path in paths}


def short_videos(folder: Path) -> dict[str, Path]:
    """Return the short videos of a folder, by name."""
    import av

    found = {}
    for path in sorted(p for p in folder.iterdir() if p.stat().st_size <= MAX_SOURCE_BYTES):
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            is_small = stream.width * stream.height <= MAX_SOURCE_PIXELS
            if is_small and (container.duration or 0) / 1e6 <= MAX_SOURCE_S:
                found[path.name.replace(".", "_")] = path
    return found


def make_copies(path: Path, videos: Path, name: str) -> set[str]:
    """Write a video and its copies as NAME--COPY.mp4; return the copies that could be made."""
    import imageio_ffmpeg

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    (videos / f"{name}--original{path.suffix}").write_bytes(path.read_bytes())
    duration_s = _duration_s(path)
    made = set()
    for copy, options in TRANSFORMATIONS.items():
        words = list(options)
        for option in ("-ss", "-t"):
            if option in words:
                position = words.index(option) + 1
                words[position] = f"{float(words[position]) * duration_s:.3f}"
        target = videos / f"{name}--{copy}.mp4"
        command = [ffmpeg, "-v", "error", "-i", str(path), *words, *X264, "-y", str(target)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=300)
        if done.returncode == 0 and target.stat().st_size > 0:
            made.add(copy)
        else:
            target.unlink(missing_ok=True)
    return made


def _duration_s(path: Path) -> float:
    import av

    with av.open(str(path), metadata_errors="ignore") as container:
        return float(container.duration or 0) / 1e6


def alike() -> set[frozenset[str]]:
    """Return the pairs of videos that do show the same, or may."""
    return {
        frozenset(row[name].replace(".", "_") for name in ("first", "second"))
        for row in labels()
        if row["kind"] != "different"
    }


def labels() -> list[dict[str, str]]:
    """Read the pairs that were labelled by eye: first, second, kind."""
    with (ROOT / "tests" / "support" / "duplicate_pairs.tsv").open(
        encoding="utf-8", newline=""
    ) as file:
        return list(csv.DictReader(file, delimiter="\t"))


def source_of(stem: str) -> str:
    """Return the source of a copy, by its name."""
    return stem.rpartition("--")[0]
