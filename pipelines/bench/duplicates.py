"""How well near-duplicates are found, and how fast candidates are: two run records.

    python pipelines/bench/duplicates.py planted VIDEOS
    python pipelines/bench/duplicates.py labelled VIDEOS
    python pipelines/bench/duplicates.py index --vectors 250000 500000 1000000

'planted' makes transformed copies, with ffmpeg, of the short videos in a folder (VXP_CORPUS/real)
and of the demo's, prunes all of them together, and counts by transformation: with the weight-free
encoder, and with a small SigLIP of random weights, which shows that the path works and tells
nothing about trained weights. A pair that names two different videos is wrong, unless
tests/support/duplicate_pairs.tsv has it. 'labelled' counts the pairs of that file among the
folder's own videos.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from duplicate_copies import (
    TRANSFORMATIONS,
    alike,
    drawn_videos,
    labels,
    make_copies,
    short_videos,
    source_of,
)
from neighbour_index import index
from records import ROOT, write_record

from vxp_data.core.thresholds import parse_keep
from vxp_data.encoders.base import Encoder
from vxp_data.engines.choose import open_engine
from vxp_data.engines.crash_ledger import Attempt, CrashLedger
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.samples import TaskRules
from vxp_data.pipeline.embed.encoder_stage import embed_all, store_all
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stages import decode_files
from vxp_data.pipeline.embed.wanted_media import read_wanted_media
from vxp_data.pipeline.embed.work_items import WorkList
from vxp_data.pipeline.prune import score_and_decide
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import open_run, read_table
from vxp_data.pipeline.run_dir.samples import dataset_facts, write_samples
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import load_config


def planted(folder: Path, threshold: float) -> dict[str, Any]:
    """Make copies, prune with each encoder, and count."""
    with tempfile.TemporaryDirectory() as scratch:
        videos = Path(scratch) / "videos"
        videos.mkdir()
        origins = {"real": short_videos(folder), "generated": drawn_videos(Path(scratch) / "demo")}
        copies = {
            name: make_copies(path, videos, name)
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
    for row in labels():
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
        "siglip, small, random weights": [
            ("encoder.name", "siglip", "bench"),
            ("encoder.checkpoint", tiny, "bench"),
        ],
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
        self.wanted = read_wanted_media(self.run)
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
        clips = clips.set_column(position, "encoder", own)
        store_all(embed_all(clips, self.encoder, self.job), self.job)

    def duplicates(self, threshold: float) -> dict[str, str]:
        """Return the representative of each duplicate, by their stems."""
        with open_engine(self.config.cluster) as engine:
            score_and_decide(self.run, self.datasets, self.config, self.job, self.wanted, engine)
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
    wanted = runs[0].wanted
    work = WorkList(wanted, np.zeros(wanted.num_clips, dtype=np.bool_))
    attempt = Attempt(CrashLedger(), "bench")
    for files in work.jobs():
        for clips in decode_files(files, attempt, runs[0].job):
            for run in runs:
                run.embed(clips)


def _counted(
    originals: list[str], copies: dict[str, set[str]], representative_of: dict[str, str]
) -> dict[str, Any]:
    """Count what was found of the copies of some videos, and what was found wrongly."""
    group_of = _groups(representative_of)
    allowed = alike()
    wrong = [
        f"{duplicate} -> {representative}"
        for duplicate, representative in sorted(representative_of.items())
        if source_of(duplicate) in originals
        and source_of(duplicate) != source_of(representative)
        and frozenset((source_of(duplicate), source_of(representative))) not in allowed
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


def _tiny_siglip(folder: Path) -> Path:
    sys.path.insert(0, str(ROOT / "tests"))
    made: Path = importlib.import_module("support.tiny_models").write_tiny_siglip(folder)
    return made


def _groups(representative_of: dict[str, str]) -> dict[str, str]:
    """Return the representative of each duplicate, and of itself."""
    return representative_of | {
        representative: representative for representative in representative_of.values()
    }


def _together(copy: str, original: str, group_of: dict[str, str]) -> bool:
    return copy in group_of and group_of.get(copy) == group_of.get(original)


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["planted", "labelled", "index"])
    parser.add_argument("videos", type=Path, nargs="?")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--vectors", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=1152)
    parser.add_argument("--processes", type=int)
    given = parser.parse_args()
    if given.what != "index" and given.videos is None:
        parser.error("name the folder of videos")
    name = "duplicates" if given.what == "planted" else f"duplicates-{given.what}"
    libraries = ("vxp", "numpy", "faiss-gpu", "av", "open_clip_torch")
    write = functools.partial(write_record, name, argv=sys.argv, libraries=libraries)
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
        index(given.vectors, given.dim, given.processes, write)
        return
    print(write(figures))


if __name__ == "__main__":
    main()
