"""A video or image file by its path or URI, decoded a few frames at a time.

Shapes: N frames of the video, F planned frames, T frames of a piece, H x W pixels, C = 3 (red,
green, blue).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule, draw_plan
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.child import decode_file, probe_file
from vxp_data.decoders.probe import Probe
from vxp_data.decoders.sandbox import FrameArena, Sandbox, SharedBuffer
from vxp_data.errors import MediaError, UserError
from vxp_data.records import Reason
from vxp_data.storage.folder import find_file
from vxp_model.data.files import read_media
from vxp_model.data.frames import FrameOptions

_PROBE_S: Final = 120.0
_PIECE_FRAMES: Final = 32
_MAX_FPS: Final = SamplingRule().max_fps
_DEFAULT: Final = FrameOptions()


class UnreadableVideoError(UserError):
    """A video or image that cannot be used, for a caller who goes on without it.

    Attributes:
        reason: why, of the closed set.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class DecodingChild:
    """A decoding process, for any number of files one after another; started when first needed.

    Args:
        memory_bytes: what decoding may allocate.
    """

    def __init__(self, memory_bytes: int = _DEFAULT.memory_mib << 20) -> None:
        self.arena, self.buffer = FrameArena(), SharedBuffer()
        self.sandbox = Sandbox(memory_bytes, self.arena, self.buffer)

    def close(self) -> None:
        """Stop the process and free its memory."""
        self.sandbox.close()
        self.arena.close()
        self.buffer.close()


class VideoFile:
    """Opens a file, plans frames, and decodes them in a sandbox, piece by piece.

    However long the video, no more than two pieces of frames are held. A file in an object store is
    read into memory whole.

    Args:
        uri: a path, or a URI of an object store.
        is_image: a still image.
        options: how frames are decoded.
        child: where; of several files that share one, only the last opened may be read. None: in a
            process of its own, which takes most of a second to start.
        probe: what was found when it was opened before; None: it is looked at now.

    Raises:
        UnreadableVideoError: there is no such file, or it is no video.
    """

    def __init__(
        self,
        uri: str | Path,
        *,
        is_image: bool = False,
        options: FrameOptions = _DEFAULT,
        child: DecodingChild | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.uri = str(uri)
        self._options = options
        self._owns_child = child is None
        self._child = child or DecodingChild(options.memory_mib << 20)
        try:
            self._path = self._index()
            self.probe: Probe = (
                probe
                or self._child.sandbox.call(
                    probe_file, self._path, self.uri, is_image, timeout_s=_PROBE_S
                ).value
            )
        except MediaError as error:
            self.close()
            what = "image" if is_image else "video"
            message = f"{self.uri}: no {what} that can be read: {error}."
            raise UnreadableVideoError(message, error.reason) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the decoding process and free its memory, unless it is shared."""
        if self._owns_child:
            self._child.close()

    def plan(
        self, *, fps: float = 1.0, num_frames: int | None = None, max_frames: int
    ) -> SamplingPlan:
        """Plan frames as a training's loader does.

        Args:
            fps: frames per second.
            num_frames: so many at equal distances instead; fewer where the video has fewer.
            max_frames: where the rate gives more, so many at equal distances.

        Raises:
            UserError: a number is out of range.
        """
        try:
            rule = (
                SamplingRule(
                    policy="fixed_fps", fps=fps, max_fps=max(fps, _MAX_FPS), max_frames=max_frames
                )
                if num_frames is None
                else SamplingRule(policy="uniform_n", num_frames=num_frames, max_frames=num_frames)
            )
        except ValueError as error:
            raise UserError(f"{self.uri}: {error}.") from error
        media = self.probe.media
        return draw_plan(
            rule,
            sample_id=self.uri,
            epoch=0,
            time_s_N=self.probe.timeline.time_s_N,
            duration_s=media.duration_s,
            source_fps=media.fps,
        )

    def pieces(
        self, frame_index_F: NDArray[np.int64], *, piece_frames: int = _PIECE_FRAMES
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode planned frames, the next piece while the caller works on this one.

        Args:
            frame_index_F: int64, indices in presentation order, strictly increasing.
            piece_frames: frames of a piece; the last may have fewer.

        Yields:
            frames_THWC: uint8, the size that the options say.

        Raises:
            UnreadableVideoError: a piece cannot be decoded.
        """
        starts = range(0, len(frame_index_F), piece_frames)
        parts = [frame_index_F[start : start + piece_frames] for start in starts]
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting = [ahead.submit(self._decode, part) for part in parts[:1]]
            for number in range(len(parts)):
                frames_THWC = waiting.pop().result()
                if number + 1 < len(parts):
                    waiting.append(ahead.submit(self._decode, parts[number + 1]))
                yield frames_THWC

    def _index(self) -> str:
        found = find_file(self.uri)
        if isinstance(found, Path):
            if not found.is_file():
                raise UnreadableVideoError(f"{self.uri}: there is no such file.", Reason.MISSING)
            return str(found.resolve())
        self._child.buffer.put(read_media(self.uri))
        return SharedBuffer.child_path()

    def _decode(self, frame_index_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        media, options = self.probe.media, self._options
        side_px = options.frame_px
        size = FrameSize(width_px=side_px or media.width_px, height_px=side_px or media.height_px)
        self._child.arena.reserve(len(frame_index_T) * size.height_px * size.width_px * 3)
        plan = self.probe.timeline.plan(frame_index_T)
        try:
            decoded = self._child.sandbox.call(
                decode_file,
                options.decoder,
                self._path,
                media,
                plan,
                size,
                timeout_s=options.timeout_s + media.num_frames * 0.02,
            ).value
        except MediaError as error:
            message = f"{self.uri}: cannot be decoded: {error}."
            raise UnreadableVideoError(message, error.reason) from error
        return self._child.arena.take(decoded.shape)
