"""From manifests to samples.parquet, and from samples to the files that must be read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from vxp_data.pipeline.media.clips import MediaItem
from vxp_data.pipeline.run_dir.directory import (
    RunDirectory,
    read_batches,
    read_tables,
)
from vxp_data.pipeline.run_dir.row_clips import named_clips
from vxp_data.records import ClipKey, Modality
from vxp_data.schemas import CURRENT_COLUMNS, SAMPLE_CLIP_KEY
from vxp_data.storage.file_versions import file_versions
from vxp_data.storage.folder import File

Clip = tuple[float, float]
"""(start, end) in seconds."""
_WHOLE_FILE: Final[tuple[Clip, ...]] = ((0.0, math.inf),)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedMedia:
    """One media file that usable samples name."""

    file_version: str
    """As it is now; '' where it is not there."""
    is_image: bool
    clips_s: tuple[Clip, ...]
    """The clips that are wanted of it, ascending."""


def read_wanted_media(run: RunDirectory) -> dict[str, WantedMedia]:
    """List the files that samples name, by URI, with their versions: once in a run.

    Args:
        run: with samples.parquet.

    Raises:
        UserError: an object store fails at every attempt.
    """
    columns = [*SAMPLE_CLIP_KEY, "clips", "modality", "reason"]
    clips_of: dict[str, set[Clip] | tuple[Clip, ...]] = {}
    videos: set[str] = set()
    for batch in read_batches(run.samples, columns=columns):
        named = named_clips(pa.Table.from_batches([batch]))
        for modality, reason, uri, start_s, end_s in zip(
            *(column.to_pylist() for column in named.columns), strict=True
        ):
            if uri and not reason:
                clip_s, clips_s = (start_s, end_s), clips_of.get(uri)
                if isinstance(clips_s, set):
                    clips_s.add(clip_s)
                elif clips_s is None and clip_s in _WHOLE_FILE:
                    clips_of[uri] = _WHOLE_FILE  # one object for nearly all files
                elif clips_s is None or clip_s not in clips_s:
                    clips_of[uri] = {clip_s, *(clips_s or ())}
                if modality == Modality.VIDEO:
                    videos.add(uri)
    versions = file_versions(clips_of)
    return {
        uri: WantedMedia(
            file_version=versions[uri],
            is_image=uri not in videos,
            clips_s=clips_s if clips_s is _WHOLE_FILE else tuple(sorted(clips_s)),
        )
        for uri, clips_s in clips_of.items()
    }


def done_clips(
    parts: Sequence[File],
    sources: Mapping[str, WantedMedia],
    *,
    encoder: str,
    sampler: str,
    but: Collection[str] = (),
) -> set[ClipKey]:
    """Find the clips that have embeddings, or a reason why not, of files as they are now.

    Args:
        parts: embeddings parts.
        sources: what samples name; a file that has changed since is not done.
        encoder: fingerprint of the embeddings.
        sampler: fingerprint of their frame sampling.
        but: reasons; a clip that failed for one of these is not done.
    """
    return {
        (row["uri"], row["clip_start_s"], row["clip_end_s"])
        for part in read_tables(parts, columns=CURRENT_COLUMNS)
        for row in part.to_pylist()
        if is_current(row, sources, encoder=encoder, sampler=sampler) and row["reason"] not in but
    }


def is_current(
    row: Mapping[str, object], sources: Mapping[str, WantedMedia], *, encoder: str, sampler: str
) -> bool:
    """Whether a row of a part (CURRENT_COLUMNS) is of a file as it is, made as it would be."""
    source = sources.get(str(row["uri"]))
    return (
        source is not None
        and source.file_version == row["file_version"]
        and (row["encoder"], row["sampler"]) == (encoder, sampler)
    )


def media_items(sources: Mapping[str, WantedMedia], done: Collection[ClipKey]) -> list[MediaItem]:
    """List the files that must be read, big ones first, each once, with its clips."""
    items = []
    for uri, source in sources.items():
        todo = tuple(clip_s for clip_s in source.clips_s if (uri, *clip_s) not in done)
        if todo:
            items.append(
                MediaItem(
                    uri=uri,
                    is_image=source.is_image,
                    file_version=source.file_version,
                    clips_s=todo,
                )
            )
    return sorted(items, key=lambda item: (-item.num_bytes, item.uri))
