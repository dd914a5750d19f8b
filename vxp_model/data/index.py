"""The index of a shard directory as columns: where every sample lies.

Shapes: N samples, that is annotation rows, in the order of the shards.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vxp_data.shard_format import FORMAT_1, INDEX_NAME, MIXED
from vxp_data.shard_index import SAMPLE_COLUMNS, ShardIndex, sample_columns
from vxp_model.data.files import ShardFolder
from vxp_model.errors import UserError

_PLACES: Final = (
    "shard", "json_offset", "json_bytes", "payload_offset", "payload_bytes", "num_frames",
)  # fmt: skip
COUNTS: Final = ("num_answers", "text_bytes", "answer_bytes", "num_media", "num_markers")
"""Columns of samples.parquet that `shard_index.word_counts` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What an index says of the rows' words and media; see `shard_index.word_counts`."""

    dataset_N: pa.Array
    """Arrow strings: the manifest that a row is from."""
    num_answers_N: NDArray[np.int32]
    text_bytes_N: NDArray[np.int64]
    answer_bytes_N: NDArray[np.int64]
    num_media_N: NDArray[np.int32]
    num_markers_N: NDArray[np.int32]
    unreadable: Mapping[int, str] = field(default_factory=dict)
    """Rows whose record cannot be read, and why: their counts are 0. Of format 1 alone, whose
    records are read to know the facts."""

    def datasets(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return the names of the datasets, and for each row the index of its own."""
        encoded = self.dataset_N.dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)

    def counts(self, row: int) -> dict[str, int]:
        """Return a row's counts, as `shard_index.word_counts` gives them."""
        return {name: int(getattr(self, f"{name}_N")[row]) for name in COUNTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTable:
    """An index and its samples; see `shard_format.SAMPLE_COLUMNS` for the columns."""

    folder: ShardFolder
    digest: str
    """SHA-256 of index.json, 64 hex digits: it names every byte of the shards."""
    index: ShardIndex
    shard_N: NDArray[np.int32]
    index_N: NDArray[np.int32]
    json_offset_N: NDArray[np.int64]
    json_bytes_N: NDArray[np.int64]
    payload_offset_N: NDArray[np.int64]
    payload_bytes_N: NDArray[np.int64]
    num_frames_N: NDArray[np.int32]
    """Planned frames of the first stored epoch, of all media: 0 for text, 1 for an image."""
    key_N: pa.Array
    sample_id_N: pa.Array
    """Arrow strings: as Python objects, a million of them would take 100 bytes each."""
    facts: RowFacts | None
    """None for shards of format 1, whose index does not have them."""

    def __len__(self) -> int:
        """Return the number of samples, N."""
        return len(self.shard_N)

    def kind(self, row: int) -> str:
        """Return what the sample is about: 'video', 'image', 'text' or 'mixed'."""
        return str(self.index.shards[self.shard_N[row]].kind)

    def sample_id(self, row: int) -> str:
        """Return the sample's name."""
        return str(self.sample_id_N[row])

    def rows_of(self, kinds: Collection[str] | None) -> NDArray[np.int64]:
        """Return the rows in shards of these kinds, ascending; None: all rows."""
        if kinds is None:
            return np.arange(len(self), dtype=np.int64)
        wanted = np.array([entry.kind in kinds for entry in self.index.shards], dtype=np.bool_)
        return np.flatnonzero(wanted[self.shard_N])

    def num_mixed(self) -> int:
        """Return how many rows have several media."""
        return len(self.rows_of([MIXED]))


def load_index(uri: str) -> ShardTable:
    """Read the index of a shard directory and check that its files are those it names.

    Args:
        uri: the directory: a path, or a URI of an object store.

    Raises:
        UserError: there is no index, it is of another version, `samples.parquet` is not the one it
            names, or a shard is missing or of another size.
    """
    folder = ShardFolder(uri)
    try:
        data = folder.read(INDEX_NAME)
    except OSError as error:
        raise UserError(
            f"{uri}: cannot read {INDEX_NAME} ({error or type(error).__name__}), wanted a "
            "directory that `vxp-data shard` has finished. It writes the index last: run it again."
        ) from error
    try:
        index = ShardIndex.from_json(data)
    except ValueError as error:
        raise UserError(
            f"{uri}/{INDEX_NAME}: {error}. Write the shards with the same version of vxp."
        ) from error
    _check_shards(folder, index)
    table = _samples(folder, index)
    return ShardTable(
        folder=folder,
        digest=hashlib.sha256(data).hexdigest(),
        index=index,
        index_N=_column(table, "place").to_numpy(),
        key_N=_column(table, "key"),
        sample_id_N=_column(table, "sample_id"),
        facts=None if index.format_version == FORMAT_1 else _facts(table),
        **{f"{name}_N": _column(table, name).to_numpy() for name in _PLACES},
    )


def _facts(table: pa.Table) -> RowFacts:
    counts = {f"{name}_N": _column(table, name).to_numpy() for name in COUNTS}
    return RowFacts(dataset_N=_column(table, "dataset"), **counts)


def _check_shards(folder: ShardFolder, index: ShardIndex) -> None:
    wanted = {entry.name: entry.num_bytes for entry in index.shards}
    try:
        wrong = folder.wrong_size(wanted)
    except OSError as error:
        raise UserError(f"{folder.uri}: cannot list the directory: {error}.") from error
    if wrong is not None:
        name, found = wrong
        raise UserError(
            f"{folder.uri}/{name}: got {found}, wanted {wanted[name]} bytes, as {INDEX_NAME} "
            f"says. Copy the shard again, or see `vxp-data verify {folder.uri}`."
        )


def _samples(folder: ShardFolder, index: ShardIndex) -> pa.Table:
    name, wanted = index.samples.name, index.samples.sha256
    try:
        data = folder.read(name)
    except OSError as error:
        raise UserError(f"{folder.uri}/{name}: cannot be read: {error}.") from error
    got = hashlib.sha256(data).hexdigest()
    if got != wanted:
        raise UserError(
            f"{folder.uri}/{name}: SHA-256 is {got[:16]}..., wanted {wanted[:16]}..., as "
            f"{INDEX_NAME} says: the file is not the one written with these shards. Copy the "
            "directory again."
        )
    columns = list(sample_columns(index.format_version))
    # Not read_table: it brings in pandas, which takes longer than reading.
    table = pq.ParquetFile(io.BytesIO(data)).read(columns=columns)
    if table.num_rows != index.samples.num_rows:
        raise UserError(
            f"{folder.uri}/{name}: {table.num_rows} rows, wanted {index.samples.num_rows}."
        )
    return table


def _column(table: pa.Table, name: str) -> Any:
    kind = pa.large_string() if SAMPLE_COLUMNS[name] == "string" else SAMPLE_COLUMNS[name]
    return table[name].cast(kind).combine_chunks()
