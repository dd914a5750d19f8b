"""The part of `verify` about `thumbnail`'s vectors beside the encoder's: one a frame, of norm 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.pipeline.run_dir.stored_frames import stored_frames
from vxp_data.schemas import CLIP_KEY

NORM_TOLERANCE: Final = 1e-2
"""How far from 1 a norm may be that was stored in steps of 1/1270."""


def check_beside(run: RunDirectory, record: Mapping[str, Any], add: Callable[[str], None]) -> None:
    """Read the vectors that clips have beside the encoder's; `add` takes problems.

    Clips without any were embedded by an older version, or without them: nothing is wrong with it.
    """
    media = read_table(run.media, columns=[*CLIP_KEY, "file_version", "reason"])
    clips = media.filter(pc.equal(media["reason"], ""))
    made_by = {"encoder": record["encoder"]["fingerprint"], "sampler": record["sampler"]}
    try:
        for clip in stored_frames(run, clips, **made_by, beside=True):
            norm_F = np.linalg.norm(clip.emb_FD.astype(np.float64), axis=1)
            if not (np.abs(norm_F - 1) <= NORM_TOLERANCE).all():
                uri = clips["uri"][clip.index].as_py()
                add(f"embeddings: {uri}: the vectors beside it are no unit vectors of thumbnail's")
    except ValueError as error:
        add(f"embeddings: vectors beside the encoder's: {error}")
