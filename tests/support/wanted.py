"""Wanted media that a test names, without a run and without files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from vxp_data.pipeline.embed.wanted_media import WantedMedia, wanted_media


def wanted_of(
    clips_of: Mapping[str, Collection[tuple[float, float]]],
    versions: str | Mapping[str, str] = "10-1",
    images: Collection[str] = (),
) -> WantedMedia:
    """Return files with their clips, (start, end) in seconds; all of one version, or each its."""
    rows = [
        {"uri": uri, "clip_start_s": start_s, "clip_end_s": end_s, "is_video": uri not in images}
        for uri, clips_s in clips_of.items()
        for start_s, end_s in clips_s
    ]
    columns = ("uri", "clip_start_s", "clip_end_s", "is_video")
    types = (pa.string(), pa.float64(), pa.float64(), pa.bool_())
    schema = pa.schema(list(zip(columns, types, strict=True)))

    def version_of(uris: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(uris, versions) if isinstance(versions, str) else versions

    return wanted_media(pa.Table.from_pylist(rows, schema), version_of)
