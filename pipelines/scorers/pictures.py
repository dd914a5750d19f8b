"""Frames of clips as JPEG, for models that take images.

They are the frames that the run has scored, or some of them at equal distances, decoded again from
the videos.
"""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Iterable
from typing import Final

import numpy as np
from asks import Failure, Frames
from PIL import Image
from template_rows import TemplateRow

from vxp_data.pipeline.run_dir.directory import open_run, read_table
from vxp_data.schemas import CLIP_KEY
from vxp_model.data.video import UnreadableVideoError
from vxp_model.eval.media import VideoReader

_QUALITY: Final = 85
ClipKey = tuple[str, float, float]


class RunFrames:
    """Which frames of its clips a run has looked at."""

    def __init__(self, run: str) -> None:
        """Read it.

        Raises:
            UserError: there is no finished run.
        """
        directory = open_run(run)
        directory.read_run()
        table = read_table(directory.media, columns=[*CLIP_KEY, "frame_index"])
        self._index: dict[ClipKey, list[int]] = {}
        for row in table.to_pylist():
            if row["frame_index"]:
                key = (row["uri"], row["clip_start_s"], row["clip_end_s"])
                self._index[key] = row["frame_index"]

    def of(self, row: TemplateRow, *, most: int, side_px: int) -> Frames | None:
        """Return the frames of a row's clip to be shown; None: the run has none of it.

        Args:
            row: of the run.
            most: frames; of more, some at equal distances.
            side_px: see `Frames`.
        """
        end_s = math.inf if row.clip_end_s is None else row.clip_end_s
        index = self._index.get((row.media_uri, row.clip_start_s, end_s))
        if index is None:
            return None
        if len(index) > most:  # the middles of so many equal parts
            index = [index[(2 * n + 1) * len(index) // (2 * most)] for n in range(most)]
        return Frames(uri=row.media_uri, frame_index=tuple(index), side_px=side_px)


class Pictures:
    """Decodes frames, one clip at a time; the last clip's are kept. May be used by threads."""

    def __init__(self) -> None:
        self._reader = VideoReader()
        self._lock = threading.Lock()
        self._last: tuple[Frames, list[bytes]] | None = None

    def jpegs(self, frames: Frames) -> list[bytes] | Failure:
        """Return frames as JPEG, in their order; or why they cannot be had."""
        with self._lock:
            if self._last is not None and self._last[0] == frames:
                return self._last[1]
            try:
                with self._reader.open(frames.uri) as file:
                    index_T = np.asarray(frames.frame_index, dtype=np.int64)
                    pieces = file.pieces(index_T, piece_frames=len(index_T))
                    made = [_jpeg(image, frames.side_px) for piece in pieces for image in piece]
            except UnreadableVideoError as error:
                return Failure(reason="no_frames", message=str(error))
            self._last = (frames, made)
            return made

    def close(self) -> None:
        """Stop the decoding process."""
        self._reader.close()


def data_uris(jpegs: Iterable[bytes]) -> list[str]:
    """Return images as OpenAI-compatible servers take them."""
    return [f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in jpegs]


def _jpeg(image_HWC: np.ndarray, side_px: int) -> bytes:
    image = Image.fromarray(image_HWC)
    image.thumbnail((side_px, side_px))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
