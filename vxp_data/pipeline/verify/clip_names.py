"""Clips as `verify` finds and names them."""

from __future__ import annotations

import math

import pyarrow as pa

from vxp_data.records import ClipKey
from vxp_data.schemas import CLIP_KEY


def clip_keys(table: pa.Table) -> list[ClipKey]:
    """Return the keys of a table's clips."""
    return list(zip(*(table[name].to_pylist() for name in CLIP_KEY), strict=True))


def clip_name(key: ClipKey) -> str:
    """Name a clip as messages do: a whole file by its URI."""
    uri, start_s, end_s = key
    return uri if (start_s, end_s) == (0, math.inf) else f"{uri} [{start_s:g} s, {end_s:g} s)"
