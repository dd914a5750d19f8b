"""Which decoder the clips of a run came from, where one on a GPU was asked for, and why not it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import pyarrow.compute as pc

from vxp_data.decoders.base import decodes_on_gpu
from vxp_data.pipeline.embed.preflight import Check, ok
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table

_MOST_REASONS: Final = 5
_NUMBER: Final = re.compile(r"\b\d+(\.\d+)?\b")
"""In which notes of one kind differ."""


def decoders_used(run: RunDirectory, decoder: str) -> Check | None:
    """Count a run's clips by decoder, and by the note of those that had another; None: nothing.

    Args:
        run: with media.parquet.
        decoder: that was asked for; one on cores is not counted.
    """
    if not decodes_on_gpu(decoder):
        return None
    columns = ["decoder", "decoder_note"]
    media = read_table(run.media, columns=columns, filters=pc.field("reason") == "")
    grouped = media.group_by(columns).aggregate([([], "count_all")]).to_pylist()
    notes: Counter[str] = Counter()
    decoders: Counter[str] = Counter()
    for group in grouped:
        decoders[group["decoder"]] += group["count_all"]
        if group["decoder"] != decoder:
            note = group["decoder_note"].removeprefix(f"{decoder}: ")
            notes[_NUMBER.sub("N", note)] += group["count_all"]
    counted = ", ".join(f"{number} by {name}" for name, number in decoders.most_common())
    reasons = [f"{number}: {note}" for note, number in notes.most_common(_MOST_REASONS)]
    others = notes.total() - sum(number for _, number in notes.most_common(_MOST_REASONS))
    if others:
        reasons.append(f"{others}: other reasons, in decoder_note of media.parquet")
    return ok("decoders", "\n  ".join([f"clips decoded: {counted or 'none'}", *reasons]))
