"""How well near-duplicates are found, and how fast candidates are: two run records.

    python pipelines/bench/duplicates.py planted VIDEOS
    python pipelines/bench/duplicates.py index --vectors 1000000

'planted' makes transformed copies, with ffmpeg, of the short videos in a folder (VXP_CORPUS/real)
and of the demo's, prunes all of them together, and counts by transformation: with the weight-free
encoder, and with a small SigLIP of random weights, which shows that the path works and tells
nothing about trained weights. A pair that names two different videos is wrong, unless
tests/duplicate_pairs.tsv has it.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from records import ROOT, write_record

from vxp_data.core.thresholds import parse_keep
from vxp_data.encoders.base import Encoder
from vxp_data.manifests.samples import TaskRules
from vxp_data.neighbours.faiss_index import build_index
from vxp_data.pipeline.attempts import Ledger
from vxp_data.pipeline.ingest import dataset_facts, media_items, read_sources, write_samples
from vxp_data.pipeline.prune import resolve_datasets, score_and_decide
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.rundir import open_run, read_table
from vxp_data.pipeline.stages import JobSettings, decode_files, embed_clips, item_table
from vxp_data.recipes import load_config
from vxp_data.registry import ENCODERS

BLOCK_VECTORS: Final = 20_000
VECTORS_PER_COPY: Final = 50
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
        tiny = str(_tiny_siglip(Path(scratch) / "siglip"))
        encoders = {
            "thumbnail": [("encoder.name", "thumbnail", "bench")],
            "siglip, small, random weights": [("encoder.checkpoint", tiny, "bench")],
        }
        runs = {
            encoder: Run(Path(scratch) / f"run-{place}", videos, settings)
            for place, (encoder, settings) in enumerate(encoders.items())
        }
        embed(list(runs.values()))
        found = {encoder: run.duplicates(threshold) for encoder, run in runs.items()}
    return {
        "threshold": threshold,
        "videos": {origin: len(originals) for origin, originals in origins.items()},
        "by_encoder": {
            encoder: {
                origin: _counted(list(originals), copies, keeper_of)
                for origin, originals in origins.items()
            }
            for encoder, keeper_of in found.items()
        },
    }


class Run:
    """A prune of a folder's videos, without Ray: what is found does not depend on it."""

    def __init__(self, out: Path, videos: Path, settings: list[tuple[str, Any, str]]) -> None:
        self.config = load_config(None, [*settings, ("encoder.device", "cpu", "bench")]).config
        out.mkdir()
        self.run = open_run(out)
        self.datasets = resolve_datasets([videos], None)
        write_samples(self.run, self.datasets, TaskRules(field=None, mapping={}))
        self.sources = read_sources(self.run)
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
        place = clips.schema.get_field_index("encoder")
        own = pa.repeat(self.encoder.spec.fingerprint, len(clips))
        embed_clips(clips.set_column(place, "encoder", own), self.encoder, self.job)

    def duplicates(self, threshold: float) -> dict[str, str]:
        """Give the keeper of each twin, by their stems."""
        score_and_decide(self.run, self.datasets, self.config, self.job, self.sources)
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
        return {Path(row["uri"]).stem: Path(row["keeper_uri"]).stem for row in rows}


def embed(runs: list[Run]) -> None:
    """Decode each video once, for all runs: their encoders take frames of the same size."""
    assert len({run.encoder.spec.frame_px for run in runs}) == 1
    items = media_items(runs[0].sources, ())
    table = item_table(items, range(len(items)))
    for clips in decode_files(table, runs[0].job, Ledger()):
        for run in runs:
            run.embed(clips)


def _counted(
    originals: list[str], copies: dict[str, set[str]], keeper_of: dict[str, str]
) -> dict[str, Any]:
    """Count what was found of the copies of some videos, and what was found wrongly."""
    groups: dict[str, set[str]] = {}
    for twin, keeper in keeper_of.items():
        groups.setdefault(keeper, {keeper}).add(twin)
    group_of = {stem: keeper for keeper, stems in groups.items() for stem in stems}
    allowed = _labelled()
    wrong = [
        f"{twin} -> {keeper}"
        for twin, keeper in sorted(keeper_of.items())
        if _source(twin) in originals
        and _source(twin) != _source(keeper)
        and frozenset((_source(twin), _source(keeper))) not in allowed
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
    made: Path = importlib.import_module("tiny_models").write_tiny_siglip(folder)
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
    """Write a video and its copies as NAME--COPY.mp4; give the copies that could be made."""
    import imageio_ffmpeg

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    (videos / f"{name}--original{path.suffix}").write_bytes(path.read_bytes())
    duration_s = _duration_s(path)
    made = set()
    for copy, options in TRANSFORMATIONS.items():
        words = list(options)
        for option in ("-ss", "-t"):
            if option in words:
                place = words.index(option) + 1
                words[place] = f"{float(words[place]) * duration_s:.3f}"
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
    """Read the pairs of videos that do show the same, or may."""
    with (ROOT / "tests" / "duplicate_pairs.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        frozenset(row[name].replace(".", "_") for name in ("first", "second"))
        for row in rows
        if row["kind"] != "different"
    }


def _source(stem: str) -> str:
    return stem.rpartition("--")[0]


def _together(copy: str, original: str, group_of: dict[str, str]) -> bool:
    return copy in group_of and group_of.get(copy) == group_of.get(original)


def index(num_vectors: int, dim: int) -> dict[str, Any]:
    """Time an index over vectors in a file, with planted neighbours; recall on a sample."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "vectors.npy"
        emb_ND = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float16, shape=(num_vectors, dim)
        )
        _fill(emb_ND, rng)
        emb_ND.flush()
        started_s, cpu_s = time.monotonic(), time.process_time()
        vectors = build_index(emb_ND)
        built_s, built_cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        started_s, cpu_s = time.monotonic(), time.process_time()
        for start in range(0, num_vectors, 1 << 15):
            vectors.search(emb_ND[start : start + (1 << 15)], 33, 0.93)
        searched_s, searched_cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        recall, num_pairs = _recall(emb_ND, vectors, _sample(num_vectors, rng))
    return {
        "kind": vectors.kind,
        "vectors": num_vectors,
        "dim": dim,
        "build_s": round(built_s, 1),
        "build_cpu_s": round(built_cpu_s, 1),
        "search_s": round(searched_s, 1),
        "search_cpu_s": round(searched_cpu_s, 1),
        "peak_rss_mib": round(peak_mib),
        "recall_of_neighbours": round(recall, 4),
        "neighbours_in_sample": num_pairs,
    }


def _fill(emb_ND: np.ndarray[Any, Any], rng: np.random.Generator) -> None:
    """Vectors around 2000 centres; each fiftieth is a copy of another, off by up to cosine 0.94."""
    dim = emb_ND.shape[1]
    centre_CD = _unit(rng.normal(size=(2000, dim)).astype(np.float32))
    for start in range(0, len(emb_ND), BLOCK_VECTORS):
        num = min(BLOCK_VECTORS, len(emb_ND) - start)
        noise_ND = rng.normal(size=(num, dim)).astype(np.float32) * (0.7 / dim**0.5)
        block_ND = _unit(centre_CD[rng.integers(2000, size=num)] + noise_ND)
        copies = num // VECTORS_PER_COPY
        off = rng.uniform(0.05, 0.35, size=(copies, 1)) / dim**0.5
        noise_ND = rng.normal(size=(copies, dim)) * off
        block_ND[num - copies :] = _unit(block_ND[:copies] + noise_ND)
        emb_ND[start : start + num] = block_ND


def _sample(num_vectors: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Choose 5,000 vectors to ask for, half of them copies: of all, few have a neighbour."""
    last_N = np.arange(BLOCK_VECTORS - BLOCK_VECTORS // VECTORS_PER_COPY, BLOCK_VECTORS)
    copies_N = (np.arange(0, num_vectors, BLOCK_VECTORS)[:, None] + last_N).ravel()
    copies_N = rng.permutation(copies_N[copies_N < num_vectors])[:2500]
    return np.unique(np.concatenate([copies_N, rng.permutation(num_vectors)[:2500]]))


def _unit(emb_ND: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    unit_ND: np.ndarray[Any, Any] = emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)
    return unit_ND


def _recall(
    emb_ND: np.ndarray[Any, Any], vectors: Any, sample: np.ndarray[Any, Any]
) -> tuple[float, int]:
    """Give the share of the true neighbours (cosine 0.93) of a sample that are found."""
    queries = emb_ND[sample].astype(np.float32)
    truth: set[tuple[int, int]] = set()
    for start in range(0, len(emb_ND), BLOCK_VECTORS):
        cosine = queries @ emb_ND[start : start + BLOCK_VECTORS].astype(np.float32).T
        query, row = np.nonzero(cosine >= 0.93)
        truth |= set(zip(query.tolist(), (row + start).tolist(), strict=True))
    truth -= set(enumerate(sample.tolist()))
    _, row_BK = vectors.search(queries, 33, 0.93)
    got = {(query, row) for query, rows in enumerate(row_BK.tolist()) for row in rows if row >= 0}
    return len(truth & got) / max(1, len(truth)), len(truth)


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["planted", "index"])
    parser.add_argument("videos", type=Path, nargs="?")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1152)
    given = parser.parse_args()
    if given.what == "planted":
        if given.videos is None:
            parser.error("name the folder of videos")
        figures = planted(given.videos, given.threshold)
        for encoder, by_origin in figures["by_encoder"].items():
            for origin, counted in by_origin.items():
                print(f"{encoder}; {origin}")
                for name, row in counted["by_copy"].items():
                    told = f"{row['found']:>3} of {row['copies']:>3}  {row['wrong']} wrong"
                    print(f"  {name:<22} {told}")
                print(*counted["wrong"], sep="\n")
    else:
        figures = index(given.vectors, given.dim)
        print(figures)
    name = "duplicates" if given.what == "planted" else "duplicates-index"
    libraries = ("vxp", "numpy", "faiss-gpu", "av", "open_clip_torch")
    print(write_record(name, figures, argv=sys.argv, libraries=libraries))


if __name__ == "__main__":
    main()
