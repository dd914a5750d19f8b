"""A finished run made of random numbers: as many rows as you like, without a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.conversation import Part, Role, Turn, conversation_json
from vxp_data.core.timeline import pack_timeline
from vxp_data.images.contact_sheet import contact_sheet
from vxp_data.pipeline.curate.decide import DecisionSettings, decide_run
from vxp_data.pipeline.run_dir.clip_means import write_means
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, write_table
from vxp_data.pipeline.run_dir.samples import dataset_facts, dataset_from_facts
from vxp_data.pipeline.run_record import decided_record
from vxp_data.registry import MEASURES
from vxp_data.schemas import EMBEDDING_FACTS, SAMPLE_SCHEMA, THUMBNAIL_SCHEMA
from vxp_data.settings.prune import PruneConfig

TASKS: Final = ("caption", "multiple_choice", "open_ended")
_CLIPS_IN_PART: Final = 256
_CENTRES: Final = 2000
_MEANS_AT_ONCE: Final = 8192
_QUESTIONS: Final = (
    "Please describe this video in detail.",
    "What happens next?\nA. A cat\nB. A dog\nAnswer with the option's letter.",
    "Who is it?",
)


def write_synthetic_run(
    folder: Path,
    *,
    num_rows: int,
    num_videos: int,
    seed: int,
    sheets: bool = False,
    dim: int = 0,
) -> RunDirectory:
    """Write a run directory as `prune` leaves it, but for embeddings.

    One video in a hundred is quarantined; a quarter of the rows of a subset are kept.

    Args:
        folder: where it goes; made.
        num_rows: annotation rows, a third of them of each task of the paper.
        num_videos: files, named by about num_rows / num_videos rows each.
        seed: of all that is random.
        sheets: write contact sheets, too, of a few drawn scenes.
        dim: width of the clips' mean embeddings, drawn around centres; 0: write none.
    """
    folder.mkdir(parents=True)
    run = open_run(folder)
    rng = np.random.default_rng(seed)
    video_R = rng.integers(0, num_videos, num_rows)
    task_R = rng.integers(0, len(TASKS), num_rows)
    uris = np.array([f"/videos/{i:07d}.mp4" for i in range(num_videos)], dtype=object)
    facts = {
        "name": "synthetic", "manifest": str(folder / "rows.jsonl"), "format": "jsonl",
        "media_root": str(folder), "task": "",
    }  # fmt: skip
    Path(facts["manifest"]).write_text("")
    dataset = dataset_from_facts(facts)
    write_table(run.samples, _samples(uris[video_R], task_R))
    media = synthetic_media(uris, rng)
    write_table(run.media, media)
    write_table(run.scores, _scores(media, rng))
    if dim:
        _write_means(run, media, dim, rng)
    if sheets:
        _write_sheets(run, media, rng)
    config = PruneConfig.model_validate({"thresholds": {"default": "keep 0.25"}})
    decided = decide_run(run, [dataset], DecisionSettings.of(config, encoder="", sampler=""))
    run.write_run(
        {
            "command": "prune",
            "ended_at": "2026-01-01T00:00:00+00:00",
            "config": config.model_dump(mode="json"),
            "config_origin": {},
            "datasets": [dataset_facts(dataset)],
            "encoder": {"name": "synthetic", "fingerprint": ""},
            "sampler": "",
            "manifests": {"rows": num_rows},
            "decided": decided_record(decided),
            "changed_files": {"number": 0, "first": []},
            "timings": {
                "wall_s": 3600.0, "embed_wall_s": 3500.0, "files_read": num_videos,
                "clips_embedded": num_videos, "probe_cpu_s": 500.0, "decode_cpu_s": 24000.0,
                "embed_cpu_s": 3000.0, "bytes_fetched": 0, "decode_workers": 15,
                "embed_workers": 1, "on_gpu": True,
            },
            "versions": {},
        }
    )  # fmt: skip
    return run


def _turns(question: str) -> str:
    asked = Turn(Role.USER, (Part("video"), Part("text", question)))
    return conversation_json([asked, Turn.of_text(Role.ASSISTANT, "A")])


def _samples(uri_R: np.ndarray, task_R: np.ndarray) -> pa.Table:
    num_rows = len(uri_R)
    turns = [_turns(question) for question in _QUESTIONS]
    columns: dict[str, Any] = {
        "sample_id": [f"synthetic/{i:08d}" for i in range(num_rows)],
        "dataset": pa.repeat("synthetic", num_rows),
        "row": np.arange(num_rows),
        "task": [TASKS[task] for task in task_R.tolist()],
        "task_origin": pa.repeat("rule", num_rows),
        "modality": pa.repeat("video", num_rows),
        "media_uri": uri_R,
        "clip_start_s": np.zeros(num_rows),
        "clip_end_s": np.full(num_rows, np.inf),
        "reason": pa.repeat("", num_rows),
        "message": pa.repeat("", num_rows),
        "clips": [[]] * len(task_R),
        "turns": [turns[task] for task in task_R.tolist()],
        "annotation": [b'{"id": %d}' % i for i in range(num_rows)],
    }
    return pa.table(columns, schema=SAMPLE_SCHEMA)


def synthetic_media(uris: Sequence[str], rng: np.random.Generator) -> pa.Table:
    """Draw the facts of videos; one in a hundred is broken."""
    num_videos = len(uris)
    duration_s = np.round(np.minimum(rng.lognormal(3.5, 1.1, num_videos), 7200.0), 3)
    fps = rng.choice([24.0, 25.0, 30.0], num_videos)
    lost = rng.random(num_videos) < 0.01
    num_frames = np.maximum(1, np.ceil(duration_s * fps)).astype(np.int64)
    timeline = pack_timeline(np.arange(20, dtype=np.int64), 0.04)
    values: dict[str, Any] = {
        "media_id": [f"{i:064x}" for i in range(num_videos)],
        "uri": uris,
        "num_bytes": (duration_s * rng.uniform(5e4, 5e5, num_videos)).astype(np.int64),
        "codec": pa.repeat("h264", num_videos),
        "width_px": np.full(num_videos, 1280, dtype=np.int32),
        "height_px": np.full(num_videos, 720, dtype=np.int32),
        "fps": fps,
        "num_frames": num_frames,
        "duration_s": duration_s,
        "clip_start_s": np.zeros(num_videos),
        "clip_end_s": np.full(num_videos, np.inf),
        "timeline": pa.repeat(timeline, num_videos),
        "file_version": pa.repeat("1-1", num_videos),
        "frames_expected": np.full(num_videos, 20, dtype=np.int32),
        "reason": np.where(lost, "truncated", "").astype(object),
        "message": np.where(lost, "moov atom not found", "").astype(object),
    }
    arrays = [
        pa.array(values[f.name], f.type) if f.name in values else pa.nulls(num_videos, f.type)
        for f in EMBEDDING_FACTS
    ]
    return pa.Table.from_arrays(arrays, schema=EMBEDDING_FACTS)


def _write_sheets(run: RunDirectory, media: pa.Table, rng: np.random.Generator) -> None:
    images = [contact_sheet(_scene(rng), max_bytes=16_384) for _ in range(40)]
    keys = media.select([name for name in THUMBNAIL_SCHEMA.names if name != "sheet"])
    for first in range(0, media.num_rows, _CLIPS_IN_PART):
        part = keys.slice(first, _CLIPS_IN_PART)
        drawn = [images[i] for i in rng.integers(0, len(images), part.num_rows).tolist()]
        part = part.append_column("sheet", pa.array(drawn, pa.binary())).cast(THUMBNAIL_SCHEMA)
        write_table(run.thumbnails.file(f"part-{first:08d}.parquet"), part)


def _write_means(run: RunDirectory, media: pa.Table, dim: int, rng: np.random.Generator) -> None:
    """Draw each clip's mean near one of a few thousand centres, all in one half of the space."""
    centre_KD = rng.standard_normal((_CENTRES, dim), dtype=np.float32) + 1.0
    mean_CD = np.empty((len(media), dim), dtype=np.float16)
    for first in range(0, len(media), _MEANS_AT_ONCE):
        block = slice(first, first + _MEANS_AT_ONCE)
        num = len(mean_CD[block])
        spread_B = rng.uniform(0.3, 1.5, (num, 1)).astype(np.float32)
        vector_BD = spread_B * rng.standard_normal((num, dim), dtype=np.float32)
        vector_BD += centre_KD[rng.integers(0, _CENTRES, num)]
        mean_CD[block] = vector_BD / np.linalg.norm(vector_BD, axis=1, keepdims=True)
    num_frames_C = np.where(pc.equal(media["reason"], "").to_numpy(), 20, 0).astype(np.int32)
    write_means(run, iter([media]), mean_CD, num_frames_C, encoder="", sampler="")


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Draw a disc that crosses an image in 20 frames."""
    y, x = np.mgrid[0:96, 0:96]
    sky, disc = rng.integers(0, 255, (2, 3))
    frames = []
    for step in range(20):
        inside = (x - 5 * step) ** 2 + (y - 48 - 20 * np.sin(step / 3)) ** 2 < 15**2
        shade = (0.6 + 0.4 * y[..., None] / 96) * sky
        frames.append(np.where(inside[..., None], disc, shade).astype(np.uint8))
    return np.stack(frames)


def _scores(media: pa.Table, rng: np.random.Generator) -> pa.Table:
    lost = np.array([bool(reason) for reason in media["reason"].to_pylist()])
    score = np.where(lost, np.nan, 1 - rng.beta(2, 6, media.num_rows))
    key = media.select(["media_id", "uri", "clip_start_s", "clip_end_s"])
    for name in MEASURES.names():
        own = 20 - 19 * score if name == "effective_frames" else score
        key = key.append_column(name, pa.array(own, from_pandas=True))
    return key
