"""The frames that a model was shown, as small JPEGs, and what of them the selector kept.

Shape suffixes: F planned frames, S of them shown, G groups, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import FramePlan
from vxp_model.eval.media import MediaFolder, VideoReader, VideoSource, file_bytes

_MOST_FRAMES: Final = 12
_FRAME_PX: Final = 208
"""Longer side of the JPEG; frames are decoded to a square of it, however large the video."""
_QUALITY: Final = 70
_PIECE_FRAMES: Final = 4
_GROUP_FRAMES: Final = 4
"""Frames of a group, where their number goes with that of the groups."""
_MOST_BARS: Final = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFrame:
    """One frame that was shown."""

    uri: str
    """The JPEG, as a data URI."""
    time_s: float
    kept: float | None
    """Share of its group's visual tokens that was kept; None: the selector did not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model was shown for one answer."""

    frames: tuple[SeenFrame, ...]
    """Some of them, evenly spread."""
    num_frames: int
    note: str
    """Why there are no frames here; '' where there are."""
    kept_bars: tuple[float, ...]
    """Share kept of each group, or of so many at once that there are not too many; none where the
    selector did not run."""


class FrameShop:
    """Reads shown frames of a benchmark's videos; of each video once."""

    def __init__(
        self, reader: VideoReader, media: str | None, plans: Mapping[str, FramePlan]
    ) -> None:
        """Name them; nothing is read yet.

        Args:
            reader: opens videos.
            media: folder or URI of the videos; None: not known.
            plans: by video.
        """
        self._reader = reader
        self._media = None if media is None else MediaFolder(media)
        self._plans = plans
        self._read: dict[str, tuple[list[str], str]] = {}

    def seen(self, video: str, row: Mapping[str, Any]) -> Seen:
        """Return what was shown for an answer; where frames cannot be read, why.

        Args:
            video: as the question names it.
            row: the answer.
        """
        plan = self._plans.get(video)
        if plan is None:
            return Seen(frames=(), num_frames=0, note="no frames are on record", kept_bars=())
        if video not in self._read:
            self._read[video] = self._jpegs(plan)
        jpegs, note = self._read[video]
        share_G = kept_shares(row)
        index_S = spread(len(plan.frame_index))
        frames = tuple(
            SeenFrame(
                uri=uri,
                time_s=plan.time_s[at],
                kept=None
                if share_G is None
                else float(share_G[group_of(at, len(plan.frame_index), len(share_G))]),
            )
            for at, uri in zip(index_S, jpegs, strict=not note)
        )
        return Seen(
            frames=frames,
            num_frames=len(plan.frame_index),
            note=note,
            kept_bars=() if share_G is None else bars(share_G),
        )

    def _jpegs(self, plan: FramePlan) -> tuple[list[str], str]:
        if self._media is None:
            return [], "where the videos lie is not on record"
        try:
            uri = self._media.find(plan.video)
            if not plan.num_bytes or file_bytes(uri) not in (0, plan.num_bytes):
                return [], f"{plan.video} is not the file that was shown: another size"
            index_S = spread(len(plan.frame_index))
            some = replace(
                plan,
                frame_index=tuple(plan.frame_index[at] for at in index_S),
                time_s=tuple(plan.time_s[at] for at in index_S),
            )
            source = VideoSource(self._reader, uri, some)
            pieces = source.pieces(frame_px=_FRAME_PX, piece_frames=_PIECE_FRAMES)
            scale = _FRAME_PX / max(plan.width_px, plan.height_px)
            size_px = (round(plan.width_px * scale) or 1, round(plan.height_px * scale) or 1)
            frames = (frame_HWC for piece_SHWC in pieces for frame_HWC in piece_SHWC)
            return [data_uri(frame_HWC, size_px) for frame_HWC in frames], ""
        except UserError as error:
            return [], str(error)


def spread(num_frames: int) -> list[int]:
    """Return positions of at most 12 of so many frames, the first and the last among them."""
    found = np.linspace(0, num_frames - 1, min(num_frames, _MOST_FRAMES)).round()
    return [int(at) for at in found]


def kept_shares(row: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the share of visual tokens kept of each group; None: the selector did not run."""
    kept_G = row.get("kept_by_group")
    if not kept_G or not row["visual_tokens"]:
        return None
    kept_share_G: NDArray[np.float64] = np.asarray(kept_G, dtype=np.float64)
    return kept_share_G * (len(kept_G) / int(row["visual_tokens"]))


def group_of(frame: int, num_frames: int, num_groups: int) -> int:
    """Return the group that a frame is in."""
    fits = -(-num_frames // _GROUP_FRAMES) == num_groups
    per_group = _GROUP_FRAMES if fits else -(-num_frames // num_groups)
    return min(frame // per_group, num_groups - 1)


def bars(share_G: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the shares as they are drawn: neighbours are averaged where there are too many."""
    parts = np.array_split(share_G, min(len(share_G), _MOST_BARS))
    return tuple(round(float(part.mean()), 4) for part in parts)


def data_uri(frame_HWC: NDArray[np.uint8], size_px: tuple[int, int]) -> str:
    """Return a frame as a small JPEG of some width and height."""
    image = Image.fromarray(np.ascontiguousarray(frame_HWC)).resize(size_px)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
