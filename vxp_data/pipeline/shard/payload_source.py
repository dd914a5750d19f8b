"""Where a payload comes from while it is copied into a shard, and what may go wrong there."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vxp_data.errors import MediaError
from vxp_data.records import Reason
from vxp_data.shards.hashing import HashingReader, ThreadedSha256
from vxp_data.shards.tar_file import Member
from vxp_data.storage.digest import digest_of_parts, sampled_ranges


class SourceError(Exception):
    """A file failed, or was seen to be another one, while it was copied into the shard."""

    def __init__(self, source: PayloadSource, reason: Reason, message: str) -> None:
        super().__init__(source.key, message)
        self.key, self.uri = source.key, source.uri
        self.error = MediaError(reason, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSource:
    """Where a payload comes from."""

    key: str
    """Of the clip, or tuple."""
    uri: str
    media_id: str
    data: bytes | Path

    def open(self) -> BinaryIO:
        """Open it.

        Raises:
            SourceError: it cannot be.
        """
        if isinstance(self.data, bytes):
            return io.BytesIO(self.data)
        try:
            return self.data.open("rb")
        except FileNotFoundError as error:
            raise SourceError(self, Reason.MISSING, str(error)) from error
        except OSError as error:
            raise SourceError(self, Reason.UNREADABLE, str(error)) from error


class SourceReader(HashingReader):
    """Reads a payload; what goes wrong is the clip's failure, not the shard's."""

    def __init__(self, file: BinaryIO, source: PayloadSource, digest: ThreadedSha256) -> None:
        super().__init__(file, digest)
        self._source = source

    def read(self, num_bytes: int = -1) -> bytes:
        """Read on.

        Raises:
            SourceError: the file fails, or is shorter than it was.
        """
        try:
            return super().read(num_bytes)
        except EOFError as error:
            message = "the file got shorter while it was copied"
            raise SourceError(self._source, Reason.SOURCE_CHANGED, message) from error
        except OSError as error:
            raise SourceError(self._source, Reason.UNREADABLE, str(error)) from error


def check_sampled(file: BinaryIO, source: PayloadSource, member: Member) -> None:
    """Check what was written of a file that is named by a sample of it, as far as that tells.

    Raises:
        SourceError: it is another file.
    """
    file.flush()
    ranges = sampled_ranges(member.num_bytes)
    parts = (os.pread(file.fileno(), stop - at, member.offset + at) for at, stop in ranges)
    found = digest_of_parts(member.num_bytes, parts)
    if found != source.media_id:
        message = f"the file has digest {found}; what was pruned had {source.media_id}"
        raise SourceError(source, Reason.SOURCE_CHANGED, message)
