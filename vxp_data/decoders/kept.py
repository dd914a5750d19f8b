"""The container that was probed last, kept open for the decode that comes next.

To open a container can cost as much as several frames: FFmpeg decodes images until it knows how far
a stream puts them out of order. There is one such container at most, and the first who asks for it
has it; a file that is not what it was then is opened anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from av.container import InputContainer
from av.video.stream import VideoStream

_SEEKABLE: Final = frozenset({"mov", "matroska"})
"""Demuxers that can be brought back to any packet: they go by an index, and have no other state."""


@dataclass(frozen=True, slots=True)
class _Kept:
    version: tuple[int, ...]
    container: InputContainer
    stream: VideoStream
    owner: ExitStack
    """Closes the container."""


@dataclass(slots=True)
class _Slot:
    kept: _Kept | None = None


_slot: Final = _Slot()


def can_be_kept(container: InputContainer) -> bool:
    """Whether a container that was read to its end may be read again."""
    return container.format.name.split(",")[0] in _SEEKABLE


def keep(path: str, container: InputContainer, stream: VideoStream, owner: ExitStack) -> None:
    """Keep an open container, in place of the one before.

    Args:
        path: under which it was opened.
        container: where it stands does not matter.
        stream: its video stream, of which nothing was decoded.
        owner: closes it.
    """
    release()
    _slot.kept = _Kept(_version(path), container, stream, owner)


def release() -> None:
    """Close the container that is kept, if there is one."""
    kept, _slot.kept = _slot.kept, None
    if kept is not None:
        kept.owner.close()


@contextmanager
def taken(path: str) -> Iterator[tuple[InputContainer, VideoStream] | None]:
    """Take the container of an unchanged file, to close it afterwards; None where none is kept."""
    kept, _slot.kept = _slot.kept, None
    with kept.owner if kept is not None else ExitStack():
        is_it = kept is not None and kept.version == _version(path)
        yield (kept.container, kept.stream) if kept is not None and is_it else None


def _version(path: str) -> tuple[int, ...]:
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
