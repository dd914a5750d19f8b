"""The parts of a mixture: shard directories, and their rows of some kinds and datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.errors import unknown_name
from vxp_data.shard_format import MIXED
from vxp_model.data.index import RowFacts, ShardTable, load_index
from vxp_model.data.order import Part
from vxp_model.data.row_facts import facts_of
from vxp_model.errors import UserError

_KINDS: Final = ("video", "image", "text", MIXED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One part of a mixture: a shard directory, or its rows of some kinds and datasets."""

    uri: str
    """A path, or a URI of an object store: 's3://bucket/shards'."""
    weight: float | None = None
    """Share of the epoch's samples, against the other sources' weights; see `order.part_counts`."""
    kinds: tuple[str, ...] | None = None
    """Of 'video', 'image', 'text' and 'mixed'; None: all."""
    datasets: tuple[str, ...] | None = None
    """Names of the manifests that rows are from; None: all. So one directory can be several parts,
    each with a weight of its own."""

    def __post_init__(self) -> None:
        for kind in self.kinds or ():
            if kind not in _KINDS:
                raise UserError(
                    f"source {self.uri}: unknown kind {kind!r}, wanted some of {', '.join(_KINDS)}."
                )
        if self.datasets == ():
            raise UserError(
                f"source {self.uri}: datasets names none, wanted one at least: leave it away to "
                "take all."
            )


@dataclass(frozen=True, slots=True)
class Rows:
    """A source's index, and which of its rows belong to it."""

    source: Source
    table: ShardTable
    row_N: NDArray[np.int64]
    """Rows of the table that are given out, ascending."""
    facts: RowFacts | None = None
    """Of all rows of the table; None: nobody has asked for them, and the index has none."""
    left_out_N: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows of the table that belong to it and are left out by rule, ascending; see `row_check`."""
    reads_words: bool = False
    """Whether every row given out must have a conversation that can be learned from, as `facts`
    say: one that turns out otherwise is replaced like one whose media are broken."""

    @classmethod
    def of(cls, source: Source, table: ShardTable | None = None) -> Self:
        """Read the index, or look into one that is read.

        Raises:
            UserError: it cannot be used, has no dataset of a name asked for, or no rows of these
                kinds and datasets.
        """
        table = table or load_index(source.uri)
        row_N, facts = table.rows_of(source.kinds), table.facts
        if source.datasets is not None:
            facts = facts_of(table)
            row_N = row_N[_is_of(facts, row_N, source)]
        if not len(row_N):
            kinds = "" if source.kinds is None else f" of kind {', '.join(source.kinds)}"
            named = "" if source.datasets is None else f" of {', '.join(source.datasets)}"
            raise UserError(
                f"{source.uri}: the index has no samples{kinds}{named}, wanted one at least. Shard "
                "a run that keeps some, or leave the source out."
            )
        return cls(source, table, row_N, facts)

    def without(self, row_n: Iterable[int], *, facts: RowFacts | None, reads_words: bool) -> Self:
        """Return the source without some of its rows.

        Args:
            row_n: rows of the table.
            facts: what was found out about its rows.
            reads_words: see the class.
        """
        left_out_N = np.array(sorted(row_n), dtype=np.int64)
        return replace(
            self,
            row_N=np.setdiff1d(self.row_N, left_out_N),
            facts=facts,
            left_out_N=left_out_N,
            reads_words=reads_words,
        )

    def left_out_digest(self) -> str:
        """Name the rows that are left out: 64 hex digits, '' where there are none."""
        rows = self.left_out_N.astype("<i8").tobytes()
        return hashlib.sha256(rows).hexdigest() if rows else ""

    def part(self) -> Part:
        """Return what the order depends on."""
        return Part(
            digest=self.table.digest,
            num_frames_N=self.table.num_frames_N[self.row_N],
            weight=self.source.weight,
        )


def read_rows(sources: Sequence[Source]) -> list[Rows]:
    """Read the indexes of a mixture, each once, however many sources name it.

    Raises:
        UserError: see `Rows.of`.
    """
    tables: dict[str, ShardTable] = {}
    rows = []
    for source in sources:
        table = tables.get(source.uri) or load_index(source.uri)
        rows.append(Rows.of(source, table))
        # Found out once, for all sources of this directory.
        tables[source.uri] = replace(table, facts=rows[-1].facts)
    return rows


def _is_of(facts: RowFacts, row_N: NDArray[np.int64], source: Source) -> NDArray[np.bool_]:
    """Return which rows are of the datasets asked for."""
    names, dataset_N = facts.datasets()
    for name in source.datasets or ():
        if name not in names:
            raise UserError(
                f"source {source.uri}: {unknown_name('dataset', name, filter(None, names))}"
            )
    wanted = [index for index, name in enumerate(names) if name in (source.datasets or ())]
    return np.isin(dataset_N[row_N], wanted)
