"""Planned frames from a payload: a video or image file, or the images of a frames payload.

Shapes: T planned frames, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.sandbox import FrameArena, Sandbox, SharedBuffer
from vxp_data.errors import MediaError
from vxp_data.extras import second_decoder
from vxp_data.shard_format import ClipRecord, frame_name
from vxp_model.data.child import ChangedMediaError, decode_planned, decode_uniform

_DECODE_S_PER_FRAME: Final = 0.02
"""Extra wall-clock allowance for each frame of a video: a long one may take long."""
_GATES_OWN: Final = "pyav"
"""The decoder that takes whatever the gate lets through."""


class BrokenSampleError(Exception):
    """A sample that cannot be used: replaced by another, counted and listed.

    Attributes:
        reason: why, one word: one of `records.Reason` for a file, else 'unreadable' (the shard),
            'checksum', 'bad_record', 'bad_row', 'bad_picture', 'source_changed'.
        message: details.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class BadRowError(BrokenSampleError):
    """A row that cannot be used; others about the same media may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOptions:
    """How frames are read."""

    frame_px: int | None = 384
    """Side of the square to which frames are squashed, as SigLIP sees them. None: the displayed
    size, for a frames payload the stored one; rows of several media cannot be read so."""
    decoder: str = "pyav"
    """A name in vxp_data.registry.DECODERS; PyAV takes what it does not claim."""
    fallback: str | None = field(default_factory=second_decoder)
    """Tried once where the decoder fails; None: no second try. 'decord', where it is installed."""
    timeout_s: float = 60.0
    """Wall-clock limit of a decode, seconds; 20 ms more for each frame that the video has."""
    memory_mib: int = 4096
    """What a decode may allocate beyond its libraries, MiB."""


class FrameReader:
    """Reads planned frames; video and image files in a sandbox, started when first needed."""

    def __init__(self, options: FrameOptions) -> None:
        self._options = options
        self._box: _Box | None = None

    def read(
        self,
        record: ClipRecord,
        payload: bytes,
        frame_index_T: NDArray[np.int64],
        time_s_T: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], int]:
        """Read a plan's frames.

        Args:
            record: of the clip, which may be one of several of a mixed record.
            payload: its member's bytes, or the file's where the shard carries none.
            frame_index_T: int64, indices in presentation order, one at least.
            time_s_T: float64, their times, seconds.

        Returns:
            frames_THWC: uint8, writable.
            inexact: how many could not be decoded and are the nearest earlier frame instead.

        Raises:
            BrokenSampleError: the payload is not what the record says, or cannot be decoded.
        """
        if record.payload.image_format:
            return self._read_images(record, payload, frame_index_T), 0
        return self._decode(record, payload, frame_index_T, time_s_T)

    def close(self) -> None:
        """Stop the child process and free its memory; the next read starts another."""
        if self._box is not None:
            self._box.close()
            self._box = None

    def _decode(
        self,
        record: ClipRecord,
        payload: bytes,
        frame_index_T: NDArray[np.int64],
        time_s_T: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], int]:
        media, options = record.media, self._options
        side_px = options.frame_px
        size = FrameSize(width_px=side_px or media.width_px, height_px=side_px or media.height_px)
        if self._box is None:
            self._box = _Box(options.memory_mib << 20)
        box = self._box
        box.arena.reserve(len(frame_index_T) * size.height_px * size.width_px * 3)
        box.buffer.put(payload)
        plan = (media.uri, media.media_id, record.kind == "image", frame_index_T, time_s_T, size)
        timeout_s = options.timeout_s + _DECODE_S_PER_FRAME * media.num_frames

        def decode(name: str) -> tuple[NDArray[np.uint8], int]:
            decoded = box.sandbox.call(decode_planned, name, *plan, timeout_s=timeout_s).value
            return box.arena.take(decoded.shape), int((~decoded.is_exact_F).sum())

        try:
            return decode(options.decoder)
        except ChangedMediaError as error:
            raise BrokenSampleError("source_changed", str(error)) from error
        except MediaError as error:
            unclaimed = error.reason.value == "unsupported"
            second = _GATES_OWN if unclaimed else options.fallback
            if second is None or second == options.decoder:
                raise BrokenSampleError(error.reason.value, error.message) from error
            try:
                return decode(second)
            except (MediaError, ChangedMediaError) as again:
                message = f"{options.decoder}: {error}; {second}: {again}"
                raise BrokenSampleError(error.reason.value, message) from again

    def _read_images(
        self, record: ClipRecord, payload: bytes, frame_index_T: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        if hashlib.sha256(payload).hexdigest() != record.payload.sha256:
            raise BrokenSampleError("checksum", "the payload's SHA-256 is not the one recorded")
        side_px = self._options.frame_px
        width_px, height_px = record.payload.width_px, record.payload.height_px
        size = (side_px or width_px, side_px or height_px)
        frames_THWC = np.empty((len(frame_index_T), size[1], size[0], 3), dtype=np.uint8)
        indices = _indices(payload)
        for t, index in enumerate(frame_index_T.tolist()):
            name = frame_name(index, record.payload.image_format)
            if name not in indices:
                raise BrokenSampleError("bad_picture", f"the payload has no {name}")
            try:
                with Image.open(io.BytesIO(payload[indices[name]])) as image:
                    rgb = image if image.mode == "RGB" else image.convert("RGB")
                    if rgb.size != size:
                        rgb = rgb.resize(size, Image.Resampling.BICUBIC)
                    frames_THWC[t] = np.asarray(rgb)
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise BrokenSampleError("bad_picture", f"{name}: {error}") from error
        return frames_THWC


class UniformReader:
    """Reads frames at equal distances from video and image files, in a sandbox, with PyAV."""

    def __init__(self, options: FrameOptions) -> None:
        self._options = options
        self._box: _Box | None = None

    def read(self, name: str, data: bytes, *, is_image: bool, num_frames: int) -> NDArray[np.uint8]:
        """Read frames.

        Args:
            name: what messages call the file.
            data: the file's bytes.
            is_image: an image, not a video.
            num_frames: of a video; a shorter one gives all it has.

        Returns:
            frames_THWC: uint8 RGB, squashed to the options' square.

        Raises:
            BrokenSampleError: it cannot be opened or decoded.
        """
        side_px = self._options.frame_px
        if side_px is None:
            raise ValueError("frames of one size are wanted: set frame_px")
        if self._box is None:
            self._box = _Box(self._options.memory_mib << 20)
        box = self._box
        box.arena.reserve(num_frames * side_px * side_px * 3)
        box.buffer.put(data)
        size = FrameSize(width_px=side_px, height_px=side_px)
        plan = (_GATES_OWN, name, is_image, num_frames, size)
        try:
            decoded = box.sandbox.call(decode_uniform, *plan, timeout_s=self._options.timeout_s)
        except MediaError as error:
            raise BrokenSampleError(error.reason.value, error.message) from error
        return box.arena.take(decoded.value.shape)

    def close(self) -> None:
        """Stop the child process and free its memory; the next read starts another."""
        if self._box is not None:
            self._box.close()
            self._box = None


class _Box:
    """A sandbox, with the memory through which a file goes in and frames come out."""

    def __init__(self, memory_bytes: int) -> None:
        self.arena = FrameArena()
        self.buffer = SharedBuffer()
        self.sandbox = Sandbox(memory_bytes, self.arena, self.buffer)

    def close(self) -> None:
        self.sandbox.close()
        self.arena.close()
        self.buffer.close()


def _indices(payload: bytes) -> dict[str, slice]:
    """Find each image's bytes in a frames payload."""
    try:
        with tarfile.open(fileobj=io.BytesIO(payload), mode="r:") as tar:
            return {i.name: slice(i.offset_data, i.offset_data + i.size) for i in tar}
    except tarfile.TarError as error:
        raise BrokenSampleError("bad_picture", f"the payload is no tar: {error}") from error
