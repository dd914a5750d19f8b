"""What is stored of clips that are embedded: one part a call, whole, and its contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.encoders.beside import beside_fingerprint
from vxp_data.pipeline.embed.clip_tables import REPORT_SCHEMA
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.run_dir.embedding_column import part_name
from vxp_data.pipeline.run_dir.part_columns import part_of
from vxp_data.pipeline.run_dir.part_table import write_part
from vxp_data.schemas import EMBEDDING_FACTS, THUMBNAIL_SCHEMA


def store_clips(
    clips: pa.Table, embeddings: Sequence[NDArray[np.float16] | None], settings: JobSettings
) -> pa.Table:
    """Write a part of clips and, where they are kept, their contact sheets.

    Args:
        clips: FRAMES_SCHEMA.
        embeddings: float16 [F, D] of each; None for one that failed.
        settings: where to.

    Returns:
        REPORT_SCHEMA but for what is known of it since: a clip is reported once it is stored.
    """
    facts = clips.select(EMBEDDING_FACTS.names).replace_schema_metadata(None)
    part = part_of(facts.cast(EMBEDDING_FACTS), embeddings)
    if settings.beside:
        made_by = [beside_fingerprint() if value.is_valid else "" for value in clips["beside"]]
        part = part.append_column("beside", clips["beside"])
        part = part.append_column("beside_encoder", pa.array(made_by, pa.string()))
    name = part_name(part)
    if settings.thumbnails is not None:  # first: clips with embeddings are never read again
        write_part(settings.thumbnails.file(name), clips.select(THUMBNAIL_SCHEMA.names))
    write_part(settings.parts.file(name), part)
    return clips.select([name for name in REPORT_SCHEMA.names if name in clips.column_names])
