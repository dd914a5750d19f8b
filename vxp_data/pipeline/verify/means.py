"""The part of `verify` about means.parquet: they are those of the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.core.duplicates import clip_mean
from vxp_data.pipeline.run_dir.clip_means import clip_means
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.pipeline.run_dir.stored_frames import stored_frames
from vxp_data.schemas import CLIP_KEY

MEAN_TOLERANCE: Final = 1e-3
"""Of a component; float16 holds 11 bits of it."""


def check_means(run: RunDirectory, record: Mapping[str, Any], add: Callable[[str], None]) -> None:
    """Work out every clip's mean from its frames anew; `add` takes problems.

    A run that was scored by an older version has no means: nothing is wrong with that.
    """
    if not run.means.is_file():
        return
    made_by = {"encoder": record["encoder"]["fingerprint"], "sampler": record["sampler"]}
    media = read_table(run.media, columns=[*CLIP_KEY, "file_version", "reason"])
    clips = media.filter(pc.equal(media["reason"], ""))
    mean_of = {
        index: mean_D
        for batch in clip_means(run, clips, **made_by)
        for index, mean_D in zip(batch.index_B.tolist(), batch.mean_BD, strict=True)
    }
    uris = clips["uri"]
    for clip in stored_frames(run, clips, **made_by):
        mean_D = mean_of.pop(clip.index, None)
        wanted_D = clip_mean(clip.emb_FD)
        same = mean_D is not None and mean_D.shape == wanted_D.shape
        if not same or not np.abs(mean_D - wanted_D).max() <= MEAN_TOLERANCE:
            add(f"means.parquet: {_name(uris, clip.index)}: its mean is not that of its frames")


def _name(uris: pa.ChunkedArray, index: int) -> str:
    return str(uris[index].as_py())
