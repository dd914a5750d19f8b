"""The files that clips come from: found, checked to be what was pruned, fetched if need be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vxp_data.errors import MediaError
from vxp_data.pipeline.media.fetch import FetchedFile, Fetcher
from vxp_data.records import Reason
from vxp_data.settings.prune import FetchConfig
from vxp_data.storage.digest import FULL_BYTES, content_digest, sampled_ranges
from vxp_data.storage.local import local_file_version
from vxp_data.storage.object_store import split_uri


class MediaSources:
    """Gives one file after another; one from an object store lives until the next, or `release`."""

    def __init__(self, fetch: FetchConfig) -> None:
        self._fetcher = Fetcher(fetch)
        self._file: FetchedFile | None = None

    def find(self, row: dict[str, Any], *, whole: bool) -> Path:
        """Find a row's file, and check that it is what was pruned.

        A file with the version that it had is believed here; where its bytes are copied, their hash
        is checked on the way.

        Args:
            row: of `kept.kept_rows`, not about text alone.
            whole: whether its bytes will be read; else a file in a store is looked at only.

        Returns:
            Where it lies locally.

        Raises:
            MediaError: it is missing, unreadable, or another file by now.
            UserError: the scratch folder cannot be used.
        """
        self.release()
        uri = row["media_uri"]
        if not split_uri(uri)[0]:
            path, file_version = Path(uri), local_file_version(uri)
        else:
            self._file = self._fetcher.open(uri)
            path, file_version = Path(self._file.path), self._file.file_version
            if whole:
                self._file.fetch_all()
        if not file_version:
            raise MediaError(Reason.MISSING, "the file is gone since the run was pruned")
        if file_version == row["file_version"]:
            return path
        digest = self._digest(path)
        if digest != row["media_id"]:
            raise changed(row, int(file_version.partition("-")[0]), digest)
        return path

    def release(self) -> None:
        """Remove what was fetched."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _digest(self, path: Path) -> str:
        if self._file is not None and self._file.num_bytes > FULL_BYTES:
            self._file.fetch(sampled_ranges(self._file.num_bytes))
        elif self._file is not None:
            self._file.fetch_all()
        try:
            return content_digest(path)
        except OSError as error:
            raise MediaError(Reason.UNREADABLE, str(error)) from error


def changed(row: dict[str, Any], num_bytes: int, digest: str) -> MediaError:
    """Build the error for a file that is not what it was."""
    return MediaError(
        Reason.SOURCE_CHANGED,
        f"the file had {row['num_bytes']} bytes and digest {row['media_id']} when it was pruned; "
        f"now {num_bytes} bytes and {digest}",
    )
