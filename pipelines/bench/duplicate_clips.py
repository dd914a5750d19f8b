"""Videos and copies of them, embedded once with each encoder: to try rules for duplicates on.

Shapes: C clips, F frames of one, D embedding width.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from duplicate_copies import drawn_videos, make_copies, short_videos
from numpy.typing import NDArray

from vxp_data.core.duplicates import ClipTimes
from vxp_data.encoders.base import Encoder
from vxp_data.encoders.beside import NAME as BESIDE
from vxp_data.encoders.beside import embed_beside, packed, unpacked
from vxp_data.engines.crash_ledger import Attempt, CrashLedger
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.samples import TaskRules
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stages import decode_files
from vxp_data.pipeline.embed.wanted_media import read_wanted_media
from vxp_data.pipeline.embed.work_items import WorkList
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.pipeline.run_dir.samples import write_samples
from vxp_data.pipeline.run_dir.stored_frames import clip_seconds
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import load_config

TRAINED: Final = "efficientnet_lite0"
ENCODERS_TRIED: Final = (TRAINED, BESIDE)
ORIGINAL: Final = "original"
_CLIPS_IN_PART: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedClip:
    """One video, whole."""

    source: str
    """Which video it is, or is a copy of."""
    copy: str
    """How the copy was made; ORIGINAL."""
    kind: str
    """'real', 'drawn', or 'labelled': a real one too long or large to be copied here."""
    times: ClipTimes
    num_pixels: int
    emb_FD: Mapping[str, NDArray[np.float16]]
    """By encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """All of them, and what it cost."""

    clips: list[EmbeddedClip]
    costs: Mapping[str, Any]


def embedded_clips(folder: Path, work: Path | None) -> Embedded:
    """Make copies and embed them, or read what an earlier call has kept.

    Args:
        folder: of videos.
        work: where embeddings are kept; None: nowhere.
    """
    kept = None if work is None else work / "clips.pickle"  # of our own making, one call before
    if kept is not None and kept.is_file():
        made: Embedded = pickle.loads(kept.read_bytes())
        return made
    with tempfile.TemporaryDirectory() as scratch:
        videos = Path(scratch) / "videos"
        videos.mkdir()
        kinds = _make_videos(folder, videos, Path(scratch) / "demo")
        made = _embed(videos, kinds, Path(scratch) / "run")
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(made))
    return made


def _make_videos(folder: Path, videos: Path, demo: Path) -> dict[str, str]:
    """Write videos and copies; return the kind of each source."""
    copied = {"real": short_videos(folder), "drawn": drawn_videos(demo)}
    kinds = {}
    for kind, originals in copied.items():
        for name, path in originals.items():
            make_copies(path, videos, name)
            kinds[name] = kind
    for path in sorted(folder.iterdir()):
        name = path.name.replace(".", "_")
        if name not in kinds:
            shutil.copy(path, videos / f"{name}--{ORIGINAL}{path.suffix}")
            kinds[name] = "labelled"
    return kinds


def _embed(videos: Path, kinds: Mapping[str, str], out: Path) -> Embedded:
    out.mkdir()
    given = [("encoder.name", TRAINED, "bench"), ("encoder.device", "cpu", "bench")]
    config = load_config(None, given).config
    encoder: Encoder = ENCODERS.load(TRAINED).load(config.encoder)
    run = open_run(out)
    write_samples(run, resolve_datasets([videos], None), TaskRules(field=None, mapping={}))
    job = JobSettings(
        frames=config.frames,
        decode=config.decode,
        fetch=config.fetch,
        encoder=config.encoder,
        spec=encoder.spec,
        sampler="bench",
        parts=run.parts,
    )
    spent_s = dict.fromkeys(ENCODERS_TRIED, 0.0)
    clips = []
    wanted = read_wanted_media(run)
    work = WorkList(wanted, np.zeros(wanted.num_clips, dtype=np.bool_))
    (files,) = work.jobs()
    for row, frames_FHWC in _frames(files, job):
        emb_FD = {}
        for name, embed in ((TRAINED, encoder.embed), (BESIDE, _as_stored)):
            began_s = time.process_time()
            emb_FD[name] = embed(frames_FHWC).astype(np.float16)
            spent_s[name] += time.process_time() - began_s
        source, _, copy = Path(row["uri"]).stem.rpartition("--")
        clips.append(
            EmbeddedClip(
                source=source,
                copy=copy,
                kind=kinds[source],
                times=ClipTimes(
                    time_s_F=np.array(row["time_s"]),
                    duration_s=clip_seconds(0.0, np.inf, row["duration_s"]),
                ),
                num_pixels=row["width_px"] * row["height_px"],
                emb_FD=emb_FD,
            )
        )
    num_frames = sum(len(clip.times.time_s_F) for clip in clips)
    costs = {
        "clips": len(clips),
        "frames_a_clip": round(num_frames / len(clips), 2),
        "cpu_s_a_clip": {name: round(s / len(clips), 4) for name, s in spent_s.items()},
        "bytes_on_disk_a_clip": _disk_bytes(clips, out),
    }
    return Embedded(clips=sorted(clips, key=lambda c: (c.source, c.copy)), costs=costs)


def _as_stored(frames_FHWC: NDArray[np.uint8]) -> NDArray[np.float16]:
    return unpacked(packed(embed_beside(frames_FHWC)).tobytes(), len(frames_FHWC))


def _disk_bytes(clips: Sequence[EmbeddedClip], out: Path) -> dict[str, int]:
    """Write the vectors of each encoder as a run does, 16 clips a part, and weigh them."""
    weight = {}
    for name in ENCODERS_TRIED:
        parts = open_run(out / name).parts
        out.joinpath(name).mkdir()
        for start in range(0, len(clips), _CLIPS_IN_PART):
            vectors = [clip.emb_FD[name] for clip in clips[start : start + _CLIPS_IN_PART]]
            values = [
                packed(emb_FD.astype(np.float32)).tobytes() if name == BESIDE else emb_FD.tobytes()
                for emb_FD in vectors
            ]
            table = pa.table({"embedding": pa.array(values, pa.large_binary())})
            write_part(parts.file(f"part-{start}.parquet"), table)
        files = (out / name).rglob("part-*")
        weight[name] = round(sum(file.stat().st_size for file in files) / len(clips))
    return weight


def _frames(files: Any, job: JobSettings) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    px = job.spec.frame_px
    for table in decode_files(files, Attempt(CrashLedger(), "bench"), job):
        (row,) = table.drop_columns(["frames"]).to_pylist()
        if row["reason"]:
            continue
        flat = np.frombuffer(table["frames"][0].as_buffer(), dtype=np.uint8)
        yield row, flat.reshape(-1, px, px, 3)
