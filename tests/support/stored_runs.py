"""Finished runs made of embeddings that a test gives: no video is there, none can be touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from support import runs
from vxp_data.encoders.beside import beside_fingerprint, packed
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.samples import TaskRules
from vxp_data.pipeline.curate.score import score_clips
from vxp_data.pipeline.curate.score_rows import write_row_scores
from vxp_data.pipeline.embed.wanted_media import read_wanted_media
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.run_dir.part_columns import part_of
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.pipeline.run_dir.samples import dataset_facts, write_samples
from vxp_data.schemas import EMBEDDING_FACTS
from vxp_data.settings.prune import PruneConfig

ENCODER = "encoder-1"
SAMPLER = "sampler-1"


@dataclass(frozen=True, kw_only=True)
class StoredClip:
    """What a run has of one clip."""

    emb_FD: NDArray[np.floating[Any]]
    duration_s: float
    media_id: str = ""
    """'' for one of its own."""
    width_px: int = 640
    height_px: int = 360
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of media.parquet."""
    beside_FD: NDArray[np.floating[Any]] | None = None
    """`thumbnail`'s vectors beside the encoder's; none, where no clip has any: older parts."""


def stored_run(
    folder: Path,
    clips: Mapping[str, StoredClip],
    rows: Sequence[dict[str, Any]] = (),
    *,
    manifest: Path | None = None,
    encoder: str = ENCODER,
) -> RunDirectory:
    """Write a run over clips, by their file names, and rows about them (none: a caption each)."""
    folder.mkdir(parents=True, exist_ok=True)
    if manifest is None:
        rows = rows or [runs.caption_row(f"row-{name}", name) for name in clips]
        manifest = runs.write_rows(folder / "rows.json", rows)
    datasets = resolve_datasets([manifest], folder)
    run = open_run(folder / "run")
    Path(str(run.root)).mkdir()
    write_samples(run, datasets, TaskRules(field=None, mapping={}))
    wanted = read_wanted_media(run)
    table = []
    for name, clip in clips.items():
        num_frames = len(clip.emb_FD)
        time_s = np.linspace(0, clip.duration_s, num_frames, endpoint=False)
        facts = {
            **dict.fromkeys(EMBEDDING_FACTS.names),
            "media_id": clip.media_id or f"id-of-{name}",
            "uri": str(folder / name),
            "width_px": clip.width_px,
            "height_px": clip.height_px,
            "duration_s": clip.duration_s,
            "clip_start_s": 0.0,
            "clip_end_s": np.inf,
            "file_version": "",
            "frame_index": list(range(num_frames)),
            "time_s": time_s.tolist(),
            "encoder": encoder,
            "sampler": SAMPLER,
            "reason": "",
            "message": "",
            **clip.facts,
        }
        table.append(facts)
    embeddings = [clip.emb_FD.astype(np.float16) for clip in clips.values()]
    part = pa.Table.from_pylist(table, EMBEDDING_FACTS)
    part = part_of(part, embeddings)
    beside = [
        None if c.beside_FD is None else packed(c.beside_FD).tobytes() for c in clips.values()
    ]
    if any(vectors is not None for vectors in beside):
        made_by = ["" if vectors is None else beside_fingerprint() for vectors in beside]
        part = part.append_column("beside", pa.array(beside, pa.large_binary()))
        part = part.append_column("beside_encoder", pa.array(made_by, pa.string()))
    write_part(run.parts.file("part-0.parquet"), part)
    score_clips(run, wanted, encoder=encoder, sampler=SAMPLER)
    write_row_scores(run, encoder=encoder, sampler=SAMPLER)
    run.write_run(
        {
            "config": PruneConfig().model_dump(mode="json"),
            "datasets": [dataset_facts(dataset) for dataset in datasets],
            "encoder": {"fingerprint": encoder, "dim": embeddings[0].shape[1]},
            "sampler": SAMPLER,
        }
    )
    return run


def decide(run: RunDirectory, **settings: Any) -> Any:
    """Decide a run anew, keeping all that is left; a setting's name has '__' for its dots."""
    values = {"thresholds__default": "keep 1.0", **settings}
    overrides = [(k.replace("__", "."), v, "test") for k, v in values.items() if "thresh" not in k]
    from vxp_data.settings.prune import threshold_spec

    default = threshold_spec(values["thresholds__default"])
    return redecide(
        str(run.root), measure=None, thresholds={}, default=default, overrides=overrides
    )[0]
