"""How well near-duplicates are found, and how fast candidates are: two run records.

    python pipelines/bench/duplicates.py planted VIDEOS
    python pipelines/bench/duplicates.py labelled VIDEOS
    python pipelines/bench/duplicates.py index --vectors 1000000

'planted' makes transformed copies, with ffmpeg, of the short videos in a folder (VXP_CORPUS/real)
and of the demo's, prunes all of them together, and counts by transformation: with the weight-free
encoder, and with a small SigLIP of random weights, which shows that the path works and tells
nothing about trained weights. A pair that names two different videos is wrong, unless
tests/support/duplicate_pairs.tsv has it. 'labelled' counts the pairs of that file among the
folder's own videos.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from neighbour_index import index
from records import ROOT, write_record

from vxp_data.core.thresholds import parse_keep
from vxp_data.encoders.base import Encoder
from vxp_data.engines.choose import open_engine
from vxp_data.engines.crash_ledger import Attempt, CrashLedger
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.samples import TaskRules
from vxp_data.pipeline.embed.stages import JobSettings, decode_files, embed_clips, file_table
from vxp_data.pipeline.embed.work_items import media_items, read_wanted_media
from vxp_data.pipeline.prune import score_and_decide
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import open_run, read_table
from vxp_data.pipeline.run_dir.samples import dataset_facts, write_samples
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import load_config

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


def planted(folder: Path, threshold: float) -> dict[str, Any]:
    """Make copies, prune with each encoder, and count."""
    with tempfile.TemporaryDirectory() as scratch:
        videos = Path(scratch) / "videos"
        videos.mkdir()
        origins = {"real": _originals(folder), "generated": _generated(Path(scratch) / "demo")}
        copies = {
            name: _copies(path, videos, name)
            for originals in origins.values()
            for name, path in originals.items()
        }
        runs = _runs(Path(scratch), videos)
        embed(list(runs.values()))
        found = {encoder: run.duplicates(threshold) for encoder, run in runs.items()}
    return {
        "threshold": threshold,
        "videos": {origin: len(originals) for origin, originals in origins.items()},
        "by_encoder": {
            encoder: {
                origin: _counted(list(originals), copies, representative_of)
                for origin, originals in origins.items()
            }
            for encoder, representative_of in found.items()
        },
    }


def labelled(folder: Path, threshold: float) -> dict[str, Any]:
    """Prune a folder with each encoder; count the pairs that were labelled by eye, by kind."""
    pairs: dict[str, set[frozenset[str]]] = {}
    for row in _labels():
        stems = (Path(row[name]).stem for name in ("first", "second"))
        pairs.setdefault(row["kind"], set()).add(frozenset(stems))
    allowed = set().union(*pairs.values()) - pairs["different"]
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        runs = _runs(Path(scratch), folder)
        embed(list(runs.values()))
        for encoder, run in runs.items():
            representative_of = run.duplicates(threshold)
            group_of = _groups(representative_of)
            found = {
                pair for pair in allowed if len({group_of.get(stem, stem) for stem in pair}) == 1
            }
            wrong = {frozenset(pair) for pair in representative_of.items()} - allowed
            right = len(found - pairs["unsure"])
            figures[encoder] = {
                "by_kind": {
                    kind: {"pairs": len(of_kind), "found": len(of_kind & found)}
                    for kind, of_kind in pairs.items()
                    if kind != "different"
                },
                "recall": round(right / len(allowed - pairs["unsure"]), 3),
                "precision": round(right / max(1, right + len(wrong)), 3),
                "wrong": sorted(" = ".join(sorted(pair)) for pair in wrong),
            }
    return {"threshold": threshold, "videos": len(list(folder.iterdir())), "by_encoder": figures}


def _runs(scratch: Path, videos: Path) -> dict[str, Run]:
    """Prepare a prune of the same videos with each encoder."""
    tiny = str(_tiny_siglip(scratch / "siglip"))
    encoders = {
        "thumbnail": [("encoder.name", "thumbnail", "bench")],
        "siglip, small, random weights": [("encoder.checkpoint", tiny, "bench")],
    }
    return {
        encoder: Run(scratch / f"run-{position}", videos, settings)
        for position, (encoder, settings) in enumerate(encoders.items())
    }


class Run:
    """A prune of a folder's videos, without Ray: what is found does not depend on it."""

    def __init__(self, out: Path, videos: Path, settings: list[tuple[str, Any, str]]) -> None:
        self.config = load_config(None, [*settings, ("encoder.device", "cpu", "bench")]).config
        out.mkdir()
        self.run = open_run(out)
        self.datasets = resolve_datasets([videos], None)
        write_samples(self.run, self.datasets, TaskRules(field=None, mapping={}))
        self.sources = read_wanted_media(self.run)
        self.encoder: Encoder = ENCODERS.load(self.config.encoder.name).load(self.config.encoder)
        self.job = JobSettings(
            frames=self.config.frames,
            decode=self.config.decode,
            fetch=self.config.fetch,
            encoder=self.config.encoder,
            spec=self.encoder.spec,
            sampler="bench",
            parts=self.run.parts,
        )

    def embed(self, clips: pa.Table) -> None:
        """Embed the frames of some clips."""
        position = clips.schema.get_field_index("encoder")
        own = pa.repeat(self.encoder.spec.fingerprint, len(clips))
        embed_clips(clips.set_column(position, "encoder", own), self.encoder, self.job)

    def duplicates(self, threshold: float) -> dict[str, str]:
        """Return the representative of each duplicate, by their stems."""
        with open_engine(self.config.cluster) as engine:
            score_and_decide(self.run, self.datasets, self.config, self.job, self.sources, engine)
        record = {
            "config": self.config.model_dump(mode="json"),
            "datasets": [dataset_facts(dataset) for dataset in self.datasets],
            "encoder": {"fingerprint": self.encoder.spec.fingerprint},
            "sampler": self.job.sampler,
        }
        self.run.write_run(record)
        wanted = {"duplicates.mode": "report", "duplicates.threshold": threshold}
        redecide(
            str(self.run.root),
            measure=None,
            thresholds={},
            default=parse_keep("1.0"),
            overrides=[(name, value, "bench") for name, value in wanted.items()],
        )
        rows = read_table(self.run.duplicates).to_pylist()
        return {Path(row["uri"]).stem: Path(row["representative_uri"]).stem for row in rows}


def embed(runs: list[Run]) -> None:
    """Decode each video once, for all runs: their encoders take frames of the same size."""
    assert len({run.encoder.spec.frame_px for run in runs}) == 1
    items = media_items(runs[0].sources, ())
    attempt = Attempt(CrashLedger(), "bench")
    for clips in decode_files(file_table(items), attempt, runs[0].job):
        for run in runs:
            run.embed(clips)


def _counted(
    originals: list[str], copies: dict[str, set[str]], representative_of: dict[str, str]
) -> dict[str, Any]:
    """Count what was found of the copies of some videos, and what was found wrongly."""
    group_of = _groups(representative_of)
    allowed = _labelled()
    wrong = [
        f"{duplicate} -> {representative}"
        for duplicate, representative in sorted(representative_of.items())
        if _source(duplicate) in originals
        and _source(duplicate) != _source(representative)
        and frozenset((_source(duplicate), _source(representative))) not in allowed
    ]
    table = {}
    for name in TRANSFORMATIONS:
        made = [source for source in originals if name in copies[source]]
        found = [s for s in made if _together(f"{s}--{name}", f"{s}--original", group_of)]
        errors = [pair for pair in wrong if pair.split(" -> ")[0].endswith(f"--{name}")]
        right = len(found)
        table[name] = {
            "copies": len(made),
            "found": right,
            "recall": round(right / max(1, len(made)), 3),
            "wrong": len(errors),
            "precision": round(right / max(1, right + len(errors)), 3),
            "missed": [source for source in made if source not in found],
        }
    return {"by_copy": table, "wrong": wrong}


def _generated(folder: Path) -> dict[str, Path]:
    """Draw the demo's videos; without those that it makes of another one."""
    sys.path.insert(0, str(ROOT / "pipelines"))
    demo = importlib.import_module("demo_videos")
    videos = demo.make_videos(folder).parent / "videos"
    derived = {demo.COPY_OF[1], demo.CUT_FROM[1]}
    paths = sorted(path for path in videos.iterdir() if path.name not in derived)
    return {path.name.replace(".", "_"): path for path in paths}


def _tiny_siglip(folder: Path) -> Path:
    sys.path.insert(0, str(ROOT / "tests"))
    made: Path = importlib.import_module("support.tiny_models").write_tiny_siglip(folder)
    return made


def _originals(folder: Path) -> dict[str, Path]:
    import av

    found = {}
    for path in sorted(p for p in folder.iterdir() if p.stat().st_size <= MAX_SOURCE_BYTES):
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            is_small = stream.width * stream.height <= MAX_SOURCE_PIXELS
            if is_small and (container.duration or 0) / 1e6 <= MAX_SOURCE_S:
                found[path.name.replace(".", "_")] = path
    return found


def _copies(path: Path, videos: Path, name: str) -> set[str]:
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


def _labelled() -> set[frozenset[str]]:
    """Return the pairs of videos that do show the same, or may."""
    return {
        frozenset(row[name].replace(".", "_") for name in ("first", "second"))
        for row in _labels()
        if row["kind"] != "different"
    }


def _labels() -> list[dict[str, str]]:
    with (ROOT / "tests" / "support" / "duplicate_pairs.tsv").open(
        encoding="utf-8", newline=""
    ) as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _groups(representative_of: dict[str, str]) -> dict[str, str]:
    """Return the representative of each duplicate, and of itself."""
    return representative_of | {
        representative: representative for representative in representative_of.values()
    }


def _source(stem: str) -> str:
    return stem.rpartition("--")[0]


def _together(copy: str, original: str, group_of: dict[str, str]) -> bool:
    return copy in group_of and group_of.get(copy) == group_of.get(original)


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["planted", "labelled", "index"])
    parser.add_argument("videos", type=Path, nargs="?")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1152)
    given = parser.parse_args()
    if given.what != "index" and given.videos is None:
        parser.error("name the folder of videos")
    name = "duplicates" if given.what == "planted" else f"duplicates-{given.what}"
    if given.what == "planted":
        figures = planted(given.videos, given.threshold)
        for encoder, by_origin in figures["by_encoder"].items():
            for origin, counted in by_origin.items():
                print(f"{encoder}; {origin}")
                for copy, row in counted["by_copy"].items():
                    told = f"{row['found']:>3} of {row['copies']:>3}  {row['wrong']} wrong"
                    print(f"  {copy:<22} {told}")
                print(*counted["wrong"], sep="\n")
    elif given.what == "labelled":
        figures = labelled(given.videos, given.threshold)
        print(json.dumps(figures, indent=1))
    else:
        figures = index(given.vectors, given.dim)
        print(figures)
    libraries = ("vxp", "numpy", "faiss-gpu", "av", "open_clip_torch")
    print(write_record(name, figures, argv=sys.argv, libraries=libraries))


if __name__ == "__main__":
    main()
