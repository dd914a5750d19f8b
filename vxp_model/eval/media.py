"""Where a benchmark's videos lie, and their frames by a stored plan.

Shape suffixes: T frames of a piece, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.probe import Probe
from vxp_data.records import Reason
from vxp_model.data.frames import FrameOptions
from vxp_model.data.video import DecodingChild, UnreadableVideoError, VideoFile
from vxp_model.eval.adapters.base import FramePlan
from vxp_model.settings.eval import FrameSettings

VIDEO_SUFFIXES: Final = frozenset(
    {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".ts", ".wmv"}
)


class MediaFolder:
    """Finds a benchmark's videos below a folder, also where their names were changed a little.

    People repack benchmarks: another suffix, capitals in it, one folder instead of ten. A video is
    taken by its path; else by its name in the same folder with another suffix; else by its name
    anywhere below, where just one file has it.
    """

    def __init__(self, root: str) -> None:
        """Name the folder, or the URI of an object store, where only the path itself counts."""
        self.root = root
        self._is_remote = "://" in root

    def find(self, video: str) -> str:
        """Return the path or URI of a video.

        Raises:
            UnreadableVideoError: there is none, or there are several of that name.
        """
        path = f"{self.root.rstrip('/')}/{video}"
        if self._is_remote or Path(path).is_file():
            return path
        name = Path(video)
        found = self._by_stem.get(name.stem.lower(), [])
        beside = [one for one in found if one.parent == Path(path).parent]
        found = beside or found
        if len(found) > 1:  # names that differ in capitals alone are two videos
            found = [one for one in found if one.stem == name.stem] or found
        if len(found) == 1:
            return str(found[0])
        what = (
            "there is no such video"
            if not found
            else f"there is no such video, and it is not known which of {len(found)} of that name "
            f"below {self.root} is meant, {found[0]} or {found[1]}"
        )
        raise UnreadableVideoError(f"{path}: {what}.", Reason.MISSING)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        """Every video below, by its name without suffix in small letters."""
        found: dict[str, list[Path]] = {}
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault(path.stem.lower(), []).append(path)
        return found


def file_bytes(uri: str) -> int:
    """Return a file's size; 0 for an object of a store, which is not asked."""
    return 0 if "://" in uri else Path(uri).stat().st_size


class VideoReader:
    """Opens videos one after another, in one decoding process, each looked at once."""

    def __init__(self) -> None:
        self._child = DecodingChild()
        self._last: tuple[str, int, Probe] | None = None

    def open(self, uri: str, *, frame_px: int | None = None) -> VideoFile:
        """Open a video; the one that was opened before it may no longer be read.

        Raises:
            UnreadableVideoError: it is no video that can be read.
        """
        known, num_bytes = self._last, file_bytes(uri)
        probe = known[2] if known is not None and known[:2] == (uri, num_bytes) else None
        options = replace(FrameOptions(), frame_px=frame_px)
        file = VideoFile(uri, options=options, child=self._child, probe=probe)
        self._last = (uri, num_bytes, file.probe)
        return file

    def close(self) -> None:
        """Stop the decoding process."""
        self._child.close()


def plan_frames(reader: VideoReader, uri: str, video: str, settings: FrameSettings) -> FramePlan:
    """Plan the frames of a video that are shown.

    Args:
        reader: opens it.
        uri: of the file.
        video: as questions name it.
        settings: with a rate or a number.

    Raises:
        UnreadableVideoError: it is no video that can be read.
        UserError: a setting is out of range.
    """
    with reader.open(uri) as file:
        plan = file.plan(
            fps=settings.fps or 1.0,
            num_frames=settings.num_frames,
            max_frames=settings.max_frames or 8192,
        )
        media = file.probe.media
    num = len(plan)
    if settings.multiple_of is not None and num > settings.multiple_of:
        num -= num % settings.multiple_of
    return FramePlan(
        video=video,
        frame_index=tuple(plan.frame_index_F[:num].tolist()),
        time_s=tuple(plan.time_s_F[:num].tolist()),
        duration_s=float(media.duration_s),
        width_px=media.width_px,
        height_px=media.height_px,
        num_bytes=file_bytes(uri),
    )


class VideoSource:
    """The planned frames of a file; a `FrameSource`."""

    def __init__(self, reader: VideoReader, uri: str, plan: FramePlan) -> None:
        self._reader = reader
        self._uri = uri
        self.plan = plan

    def pieces(self, *, frame_px: int | None, piece_frames: int) -> Iterator[NDArray[np.uint8]]:
        """Decode them; see `FrameSource.pieces`."""
        index_F = np.asarray(self.plan.frame_index, dtype=np.int64)
        with self._reader.open(self._uri, frame_px=frame_px) as file:
            yield from file.pieces(index_F, piece_frames=piece_frames)
