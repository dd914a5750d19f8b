"""Where a row's media lies, and whether we may go there: below the media root, and nowhere else."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.manifests.base import RowError, type_name
from vxp_data.manifests.conversation import is_given
from vxp_data.records import Modality, Reason
from vxp_data.storage.folder import Folder

VIDEO_COLUMNS: Final = ("video", "videos", "video_path")
IMAGE_COLUMNS: Final = ("image", "images", "image_path")
FILE_COLUMNS: Final = ("path", "file_name")
"""Columns that name a file of either kind: an image by its suffix, else a video."""
COLUMNS: Final = (*VIDEO_COLUMNS, *IMAGE_COLUMNS, *FILE_COLUMNS)
"""Every column read here; the first that is not empty counts, in this order."""

_PATH_CHARS: Final = 4096
_IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PSEUDO_PROTOCOL: Final = re.compile(  # FFmpeg's own that need no '//'; others are file names
    r"(?:async|cache|concatf?|crypto|data|fd|file|ftp|gopher|hls|https?|ipfs|ipns|md5|mmsh|mmst|pipe"
    r"|rtmp\w*|rtp|rtsp|sftp|smb|srtp?|subfile|tcp|tee|tls|udp|udplite|unix)(?:[:,]|\+\w+:)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMedia:
    """The media that a row names, not yet looked for."""

    modality: Modality
    name: str
    """As the row has it: a path, relative to the media root or absolute; '' without media."""
    num_named: int
    """How many the row's column holds; the first of several images counts."""


def find_media(fields: Mapping[str, object]) -> NamedMedia:
    """Return which media a row names: the first of `COLUMNS` that holds something.

    Raises:
        RowError: that column holds neither a path nor a list with one, or several videos.
    """
    for column in COLUMNS:
        value = fields.get(column)
        values = value if isinstance(value, list) else [value]
        if not values or not is_given(values[0]):
            continue
        name = _path_in(column, values[0])
        modality = _modality(column, name)
        if len(values) > 1 and modality is Modality.VIDEO:
            raise RowError(
                f"{column} names {len(values)} files, wanted one video a row. "
                "Cut the row in several, or join the videos"
            )
        return NamedMedia(modality=modality, name=name, num_named=len(values))
    return NamedMedia(modality=Modality.TEXT, name="", num_named=0)


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
        if _SCHEME.match(name) or _PSEUDO_PROTOCOL.match(name):
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
        if not own and (_SCHEME.match(name) or _PSEUDO_PROTOCOL.match(name)):
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


def _url(name: str, root: str) -> RowError:
    return RowError(
        f"{name!r} is a URL or protocol, wanted a path below {root}. "
        "Download the file first, and name it by its path",
        Reason.FORBIDDEN,
    )


def _path_in(column: str, value: object) -> str:
    if isinstance(value, Mapping) and is_given(value.get("path")):
        value = value["path"]  # Hugging Face's {'bytes': ..., 'path': ...}
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
    return value


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8; a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _modality(column: str, name: str) -> Modality:
    is_image = column in IMAGE_COLUMNS or (
        column in FILE_COLUMNS and name.lower().endswith(_IMAGE_SUFFIXES)
    )
    return Modality.IMAGE if is_image else Modality.VIDEO
