"""The parts of a mixture: shard directories, and their rows of some kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.shard_format import MIXED
from vxp_model.data.index import ShardTable, load_index
from vxp_model.data.order import Part
from vxp_model.errors import UserError

_KINDS: Final = ("video", "image", "text", MIXED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One part of a mixture: a shard directory, or its shards of some kinds."""

    uri: str
    """A path, or a URI of an object store: 's3://bucket/shards'."""
    weight: float | None = None
    """Share of the epoch's samples, against the other sources' weights; see `order.part_counts`."""
    kinds: tuple[str, ...] | None = None
    """Of 'video', 'image', 'text' and 'mixed'; None: all."""

    def __post_init__(self) -> None:
        for kind in self.kinds or ():
            if kind not in _KINDS:
                raise UserError(
                    f"source {self.uri}: unknown kind {kind!r}, wanted some of {', '.join(_KINDS)}."
                )


@dataclass(frozen=True, slots=True)
class Rows:
    """A source's index, and which of its rows belong to it."""

    source: Source
    table: ShardTable
    row_N: NDArray[np.int64]

    @classmethod
    def of(cls, source: Source) -> Self:
        """Read the index.

        Raises:
            UserError: it cannot be used, or has no rows of these kinds.
        """
        table = load_index(source.uri)
        row_N = table.rows_of(source.kinds)
        if not len(row_N):
            kinds = "" if source.kinds is None else f" of kind {', '.join(source.kinds)}"
            raise UserError(
                f"{source.uri}: the index has no samples{kinds}, wanted one at least. Shard a run "
                "that keeps some, or leave the source out."
            )
        return cls(source, table, row_N)

    def part(self) -> Part:
        """Return what the order depends on."""
        return Part(
            digest=self.table.digest,
            num_frames_N=self.table.num_frames_N[self.row_N],
            weight=self.source.weight,
        )
