"""The files that clips come from: found, checked to be what was pruned, fetched if need be."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Gives one file after another; those from an object store live until `release`."""

    def __init__(self, fetch: FetchConfig) -> None:
        self._fetch = fetch
        self._fetchers: list[Fetcher] = []
        """As many as files were wanted at once: each holds one."""
        self._files: list[FetchedFile] = []

    def find(self, medium: Mapping[str, Any], *, whole: bool) -> Path:
        """Find a medium's file, and check that it is what was pruned.

        A file with the version that it had is believed here; where its bytes are copied, their hash
        is checked on the way.

        Args:
            medium: of `frame_plans.media_of`.
            whole: whether its bytes will be read; else a file in a store is looked at only.

        Returns:
            Where it lies locally.

        Raises:
            MediaError: it is missing, unreadable, or another file by now.
            UserError: the scratch folder cannot be used.
        """
        uri = medium["media_uri"]
        fetched = None
        if not split_uri(uri)[0]:
            path, file_version = Path(uri), local_file_version(uri)
        else:
            fetched = self._open(uri)
            path, file_version = Path(fetched.path), fetched.file_version
            if whole:
                fetched.fetch_all()
        if not file_version:
            raise MediaError(Reason.MISSING, "the file is gone since the run was pruned")
        if file_version == medium["file_version"]:
            return path
        digest = _digest(path, fetched)
        if digest != medium["media_id"]:
            raise changed(medium, int(file_version.partition("-")[0]), digest)
        return path

    def release(self) -> None:
        """Remove what was fetched."""
        while self._files:
            self._files.pop().close()

    def _open(self, uri: str) -> FetchedFile:
        if len(self._files) == len(self._fetchers):
            self._fetchers.append(Fetcher(self._fetch))
        file = self._fetchers[len(self._files)].open(uri)
        self._files.append(file)
        return file


def _digest(path: Path, fetched: FetchedFile | None) -> str:
    """Return a file's digest; of one in a store, what it needs is fetched."""
    if fetched is not None and fetched.num_bytes > FULL_BYTES:
        fetched.fetch(sampled_ranges(fetched.num_bytes))
    elif fetched is not None:
        fetched.fetch_all()
    try:
        return content_digest(path)
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, str(error)) from error


def changed(medium: Mapping[str, Any], num_bytes: int, digest: str) -> MediaError:
    """Build the error for a file that is not what it was."""
    return MediaError(
        Reason.SOURCE_CHANGED,
        f"the file had {medium['num_bytes']} bytes and digest {medium['media_id']} when it was "
        f"pruned; now {num_bytes} bytes and {digest}",
    )
