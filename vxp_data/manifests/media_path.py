"""Where a row's media lies, and whether we may go there: below the media root, and nowhere else."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Final

from vxp_data.manifests.base import RowError, type_name
from vxp_data.records import Reason
from vxp_data.storage.folder import Folder

_PATH_CHARS: Final = 4096
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of images; a file of any other is taken for a video."""
STEM_SUFFIXES: Final = (".mp4", ".mkv", ".webm", ".mov", ".avi")
"""Where a video is named by its id: what may follow, likeliest first."""
VIDEO_SUFFIXES: Final = frozenset([
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".mpg", ".mpeg", ".flv", ".3gp",
    ".wmv", ".gif", ".ogv", ".mts", ".m2ts", ".vob", ".asf",
])  # fmt: skip
"""Suffixes of videos, in lower case."""
_KNOWN_SUFFIXES: Final = VIDEO_SUFFIXES | set(IMAGE_SUFFIXES)
_FILE_URL: Final = "file:///"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PSEUDO_PROTOCOL: Final = re.compile(  # FFmpeg's own that need no '//'; others are file names
    r"(?:async|cache|concatf?|crypto|data|fd|file|ftp|gopher|hls|https?|ipfs|ipns|md5|mmsh|mmst|pipe"
    r"|rtmp\w*|rtp|rtsp|sftp|smb|srtp?|subfile|tcp|tee|tls|udp|udplite|unix)(?:[:,]|\+\w+:)",
    re.IGNORECASE,
)


class MediaPaths:
    """Turns names of media into absolute paths below one root; remembers resolved folders."""

    def __init__(self, root: Path) -> None:
        self.root = posixpath.abspath(str(root))
        self._real_root = posixpath.realpath(self.root)
        self._real_folders: dict[str, str] = {}

    def resolve(self, name: str) -> str:
        """Return the normalised absolute path of a media; whether it exists is not asked.

        Raises:
            RowError: FORBIDDEN: a URL or protocol, or a path that leads out of the root by
                '..', by being absolute, or through a symbolic link.
        """
        if is_url(name):
            raise _url(name, self.root)
        path = posixpath.normpath(posixpath.join(self.root, name))
        path = "/" + path.lstrip("/")  # POSIX lets '//' stand; we do not
        real = self._real(path)
        if not real.startswith(self._real_root.rstrip("/") + "/"):
            through = f" (it leads to {real})" if real != path else ""
            raise RowError(
                f"{name!r} lies outside the media root {self.root}{through}. "
                "Move the file below it, or set media_root to a folder that holds both",
                Reason.FORBIDDEN,
            )
        return path

    def resolve_stem(self, name: str) -> str:
        """Return the path of a video that is named by its id: with the suffix of the file there.

        Raises:
            RowError: see `resolve`.
        """
        path = self.resolve(name)
        if posixpath.splitext(name)[1].lower() in _KNOWN_SUFFIXES:
            return path
        files = (self.resolve(name + suffix) for suffix in STEM_SUFFIXES)
        there = next((file for file in files if posixpath.isfile(file)), None)
        return there or (path if posixpath.isfile(path) else path + STEM_SUFFIXES[0])

    def _real(self, path: str) -> str:
        """Resolve symbolic links: the folder once, the file itself only if it is a link."""
        folder, file = posixpath.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = posixpath.realpath(folder)
        if posixpath.islink(path):
            return posixpath.realpath(path)
        return posixpath.join(self._real_folders[folder], file)


class RemoteMediaPaths:
    """Turns names of media into URIs below one prefix of an object store."""

    def __init__(self, root: Folder) -> None:
        self.root = root.uri

    def resolve(self, name: str) -> str:
        """Return the URI of a media; whether it exists is not asked.

        Args:
            name: a path that counts from the root, or a whole URI below it.

        Raises:
            RowError: FORBIDDEN: another scheme, bucket or prefix, or a path that leads out of the
                root by '..' or by being absolute.
        """
        scheme, _, prefix = self.root.partition("://")
        own = _SCHEME.match(name) is not None and name.startswith(f"{scheme}://")
        if not own and is_url(name):
            raise _url(name, self.root)
        key = name.partition("://")[2] if own else posixpath.join(f"/{prefix}", name)
        path = posixpath.normpath("/" + key.lstrip("/"))
        if not path.startswith(f"/{prefix}/"):
            raise RowError(
                f"{name!r} lies outside the media root {self.root}. "
                "Move the file below it, or set media_root to a prefix that holds both",
                Reason.FORBIDDEN,
            )
        return f"{scheme}:/{path}"

    def resolve_stem(self, name: str) -> str:
        """Return the URI of a video that is named by its id: an `.mp4`, the store is not asked.

        Raises:
            RowError: see `resolve`.
        """
        has_suffix = posixpath.splitext(name)[1].lower() in _KNOWN_SUFFIXES
        return self.resolve(name if has_suffix else name + STEM_SUFFIXES[0])


def _url(name: str, root: str) -> RowError:
    return RowError(
        f"{name!r} is a URL or protocol, wanted a path below {root}. "
        "Download the file first, and name it by its path",
        Reason.FORBIDDEN,
    )


def checked_name(column: str, value: object) -> str:
    """Return the name of a media as a column has it, if any path can have it.

    `file:///` before an absolute path goes: Qwen's rows have it.

    Raises:
        RowError: it is no text, too long, or holds what no path does.
    """
    if not isinstance(value, str):
        raise RowError(f"{column} is {type_name(value)}, wanted the path of a file")
    if len(value) > _PATH_CHARS:
        raise RowError(
            f"{column} has {len(value)} characters, wanted a path of {_PATH_CHARS} at most"
        )
    if "\0" in value:
        raise RowError(f"{column} is {value!r:.80}, which holds a NUL character: no path does")
    if not is_unicode(value):
        raise RowError(f"{column} is {value!r:.80}, which is not valid Unicode. Rename the file")
    return value[len(_FILE_URL) - 1 :] if value.startswith(_FILE_URL) else value


def is_url(name: str) -> bool:
    """Whether a name is a URL, or a protocol that FFmpeg would open."""
    return bool(_SCHEME.match(name) or _PSEUDO_PROTOCOL.match(name))


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
