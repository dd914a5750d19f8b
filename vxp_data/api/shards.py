"""Finished shards, opened from Python."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from vxp_data.api.arguments import Where
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import read_table
from vxp_data.pipeline.shard.index import read_index
from vxp_data.pipeline.verify.shards import Verified, require_whole, verify_shards
from vxp_data.shard_format import ShardRecord
from vxp_data.shard_index import ShardEntry, ShardIndex
from vxp_data.shards.shard_file import read_clips
from vxp_data.storage.folder import open_folder


class Shards:
    """A folder of finished shards, on a disk or in an object store.

    Iterating gives the record of every clip, in the order of the shards; `len` is their number. No
    payload is read: batches with frames are `vxp_model.ShardLoader`'s business.

    Args:
        path: the folder, or its URI.

    Raises:
        UserError: it holds no finished shards.
    """

    def __init__(self, path: Where) -> None:
        self._folder = open_folder(path)
        self._index = read_index(self._folder)

    def __repr__(self) -> str:
        return f"Shards({self.uri!r})"

    @property
    def uri(self) -> str:
        """An absolute path, or a URI; what `vxp_model.ShardLoader` takes."""
        return self._folder.uri

    @property
    def index(self) -> ShardIndex:
        """What index.json says: the shards with their sizes and digests, sampling, provenance."""
        return self._index

    @property
    def samples(self) -> pa.Table:
        """One row a sample: its shard, its place in it, its task; see `shard_format`.

        Raises:
            UserError: the file cannot be read.
        """
        return read_table(self._folder.file(self._index.samples.name))

    @property
    def quarantine(self) -> pa.Table:
        """One row for each kept row whose media could not be used when the shards were written.

        Raises:
            UserError: the file cannot be read.
        """
        return read_table(self._folder.file(self._index.quarantine.name))

    def verify(self) -> Verified:
        """Read every shard and open every payload, as `vxp-data verify` does.

        Returns:
            What was looked at, counted.

        Raises:
            UserError: something is not as the index says; the message lists all problems.
        """
        verified = verify_shards(self._folder)
        require_whole(verified, self.uri)
        return verified

    def __len__(self) -> int:
        """Return the number of clips."""
        return sum(entry.num_clips for entry in self._index.shards)

    def __iter__(self) -> Iterator[ShardRecord]:
        """Return every clip's record: its rows, their sampling plans, facts about the file.

        Of rows about several media it is a `MixedRecord`, which has all of their clips.

        Raises:
            UserError: a shard cannot be read.
        """
        for entry in self._index.shards:
            yield from self._records(entry)

    def _records(self, entry: ShardEntry) -> Iterator[ShardRecord]:
        try:
            with self._folder.open(entry.name) as file:
                for clip in read_clips(file):
                    yield clip.record
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read {self._folder.where(entry.name)}: {error}. `Shards.verify` lists all "
                "that is wrong; the same `vxp-data shard` writes broken shards again."
            ) from error
