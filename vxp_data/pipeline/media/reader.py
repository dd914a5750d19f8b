"""One media in the sandbox: probe it, decode planned frames of it. Plain objects."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.base import FramePlan, FrameSize, decodes_on_gpu
from vxp_data.decoders.child import Decoded, decode_file, probe_file
from vxp_data.decoders.gpu_child import GpuJob
from vxp_data.decoders.gpu_client import GpuClient
from vxp_data.decoders.indexed import IndexedProbe, probe_by_index, probe_indexed, ranges_of
from vxp_data.decoders.probe import Probe
from vxp_data.decoders.sandbox import FrameArena, Sandbox, Timed
from vxp_data.errors import MediaError
from vxp_data.pipeline.media.core_or_gpu import why_on_core
from vxp_data.pipeline.media.fetch import FetchedFile, Fetcher
from vxp_data.pipeline.media.mp4_boxes import header_ranges
from vxp_data.pipeline.media.near_names import named_nearly, near_file
from vxp_data.records import Media, Reason
from vxp_data.settings.prune import DecodeConfig, FetchConfig
from vxp_data.storage.digest import FULL_BYTES, sampled_ranges
from vxp_data.storage.object_store import split_uri

_DECODE_S_PER_FRAME: Final = 0.02
"""Extra wall-clock allowance for each frame of a video: a long one may take long."""

_SEEN_IN_HEADER: Final = frozenset({
    Reason.ENCRYPTED,
    Reason.NO_VIDEO_STREAM,
    Reason.TOO_LARGE,
    Reason.FORBIDDEN,
    Reason.TIMEOUT,
    Reason.CRASHED,
    Reason.OUT_OF_MEMORY,
})  # fmt: skip
"""What the images would not change; after any other failure the file is fetched whole."""

_FETCH: Final = FetchConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFrames:
    """The frames of a plan, and how they were got."""

    frames_FHWC: NDArray[np.uint8]
    """uint8, of the size asked for."""
    media: Media
    """As probed, with the displayed size and rotation that decoding showed."""
    num_exact: int
    """Frames that are the planned ones; others were replaced by the nearest earlier one."""
    decoder: str
    note: str
    """Why not the decoder asked for, and what is not as the stream says; '' for neither."""
    cpu_s: float


class MisleadingIndexError(Exception):
    """A file is not what its index says: what was probed by it is to be probed anew."""


class MediaReader:
    """Holds one child process, in which media after media is probed and decoded.

    Where the decoder is one on a GPU, files that gain by it are decoded in the GPU's child, which
    all workers of the machine share.

    A media in an object store is fetched first, since the child has no network: whole, or if it is
    big and has an index, in those parts that the plan needs. What was fetched stays until the next
    probe or `release`.
    """

    def __init__(self, decode: DecodeConfig, fetch: FetchConfig = _FETCH) -> None:
        self._decode = decode
        self._arena = FrameArena()
        self._sandbox = Sandbox(decode.memory_mib << 20, self._arena)
        self._gpu = GpuClient(decode.memory_mib << 20) if decodes_on_gpu(decode.decoder) else None
        self._fetcher = Fetcher(fetch)
        self._file: FetchedFile | None = None
        self._indexed: IndexedProbe | None = None
        # A process of multiprocessing's waits for its children before what atexit would do.
        self._closing = Finalize(None, self._close, exitpriority=10)

    @property
    def bytes_fetched(self) -> int:
        """How much was fetched of the media probed last; 0 for one on a disk."""
        return self._file.bytes_fetched if self._file else 0

    def close(self) -> None:
        """Stop the child process, free the shared memory, remove what was fetched.

        Called at the end of the process where nobody else does.
        """
        self._closing()

    def _close(self) -> None:
        self.release()
        self._fetcher.close()
        if self._gpu is not None:
            self._gpu.close()
        self._sandbox.close()
        self._arena.close()

    def release(self) -> None:
        """Remove what was fetched of the media probed last."""
        if self._file is not None:
            self._file.close()
        self._file = self._indexed = None

    def probe(self, uri: str, *, is_image: bool, by_index: bool = False) -> Timed[Probe]:
        """Read a file's facts and timeline.

        Args:
            uri: a path, or a URI of an object store.
            is_image: a still image.
            by_index: a big MP4 on a disk may be probed by its index, which spares reading all of
                it; `decode` may then raise `MisleadingIndexError`.

        Raises:
            MediaError: it cannot be used.
            UserError: the scratch folder cannot be used.
        """
        self.release()
        if not split_uri(uri)[0]:
            # Other decoders do not look whether key frames are where the index has them.
            if by_index and not is_image and self._decode.decoder == "pyav" and _has_index(uri):
                timed = self._probe_by_index(uri)
                if timed is not None:
                    return timed
            return self._probe(uri, uri, is_image=is_image)
        self._file = self._fetcher.open(uri)
        if self._file.num_bytes > FULL_BYTES and not is_image:
            timed = self._probe_in_parts(self._file)
            if timed is not None:
                return timed
        self._file.fetch_all()
        return self._probe(self._file.path, uri, is_image=is_image)

    def decode(self, media: Media, plan: FramePlan, size: FrameSize) -> PlannedFrames:
        """Decode with the decoder asked for; where it fails or does not claim the media, once more.

        Where a decoder says `unsupported`, PyAV takes its place, since the gate is PyAV's own; so
        it does where a decoder on a GPU fails, or would gain too little by the file.

        Raises:
            MediaError: neither gave a frame, or what is needed cannot be fetched.
            MisleadingIndexError: the file is to be probed again, not `by_index`, before it is
                planned and decoded.
            UserError: the scratch folder cannot be used.
        """
        if plan.by_index and self._file is None:
            return self._decode_by_index(media, plan, size)
        if self._file is not None and self._indexed is not None:
            planned = self._decode_in_parts(self._file, self._indexed, media, plan, size)
            if planned is not None:
                return planned
            plan = self._planned_on_whole(self._file, media, plan)
        first = self._decode.decoder
        if self._gpu is not None and (why := why_on_core(media, plan, self._decode.nvdec_gain)):
            return self._frames("pyav", f"{first}: {why}", media, plan, size)
        try:
            return self._frames(first, "", media, plan, size)
        except MediaError as error:
            is_pyavs = error.reason is Reason.UNSUPPORTED or self._gpu is not None
            second = "pyav" if is_pyavs else self._decode.fallback
            if second is None or second == first:
                raise
            note = f"{first}: {error}"
            try:
                return self._frames(second, note, media, plan, size)
            except MediaError as again:
                raise MediaError(error.reason, f"{note}; {second}: {again}") from again

    def _probe(self, path: str, uri: str, *, is_image: bool) -> Timed[Probe]:
        # Not a file that was fetched: it would take room until another is probed.
        keep_open = self._file is None and self._decode.decoder == "pyav"
        call = (probe_file, path, uri, is_image, self._decode.limits(), keep_open)
        try:
            return self._sandbox.call(*call, timeout_s=self._decode.timeout_s)
        except MediaError as error:
            if error.reason is not Reason.MISSING:
                raise
            raise MediaError(error.reason, error.message + named_nearly(near_file(path))) from error

    def _probe_by_index(self, path: str) -> Timed[Probe] | None:
        """Probe a big file on a disk by its index; None where that is not to be trusted."""
        call = (probe_by_index, path, path, self._decode.limits())
        try:
            return self._sandbox.call(*call, timeout_s=self._decode.timeout_s)
        except MediaError:  # the whole file then tells the reason
            return None

    def _decode_by_index(self, media: Media, plan: FramePlan, size: FrameSize) -> PlannedFrames:
        """Decode with PyAV, which looks whether the index was right."""
        try:
            planned = self._frames("pyav", "", media, plan, size)
        except MediaError as error:
            raise MisleadingIndexError from error
        if planned.num_exact < len(plan):
            raise MisleadingIndexError
        return planned

    def _probe_in_parts(self, file: FetchedFile) -> Timed[Probe] | None:
        """Probe a big file from its header; None where it has to be whole for that."""
        file.fetch(sampled_ranges(file.num_bytes))
        header = header_ranges(file.read, file.num_bytes)
        if header is None:
            return None
        file.fetch(header)
        cpu_s = 0.0
        while True:
            try:
                timed = self._sandbox.call(
                    *(probe_indexed, file.path, file.uri, self._decode.limits()),
                    timeout_s=self._decode.timeout_s,
                )
            except MediaError as error:
                if error.reason in _SEEN_IN_HEADER:
                    raise
                return None
            cpu_s += timed.cpu_s
            if file.has(timed.value.head):
                break
            file.fetch(timed.value.head)  # with it, the second look is what it would be on a disk
        self._indexed = timed.value
        return Timed(timed.value.probe, cpu_s)

    def _decode_in_parts(
        self,
        file: FetchedFile,
        indexed: IndexedProbe,
        media: Media,
        plan: FramePlan,
        size: FrameSize,
    ) -> PlannedFrames | None:
        """Decode with what PyAV reads for a plan; None where that does not give every frame."""
        if self._decode.decoder != "pyav":
            return None  # nobody else tells which packets it will read
        file.fetch(ranges_of(plan, indexed.offset_P, indexed.num_bytes_P))
        try:
            planned = self._frames("pyav", "", media, plan, size)
        except MediaError:
            return None
        return planned if planned.num_exact == len(plan) else None

    def _planned_on_whole(self, file: FetchedFile, media: Media, plan: FramePlan) -> FramePlan:
        """Fetch the rest of a file, and plan the same frames of it as it really is."""
        self._indexed = None
        file.fetch_all()
        timeline = self._probe(file.path, file.uri, is_image=False).value.timeline
        if len(timeline) != media.num_frames:
            raise MediaError(
                Reason.CORRUPT, f"{len(timeline)} frames, {media.num_frames} by the header alone"
            )
        return timeline.plan(plan.frame_index_F)

    def _frames(
        self, name: str, note: str, media: Media, plan: FramePlan, size: FrameSize
    ) -> PlannedFrames:
        decoded, frames_FHWC, cpu_s = self._decode_with(name, media, plan, size)
        geometry = decoded.geometry
        return PlannedFrames(
            frames_FHWC=frames_FHWC,
            media=replace(
                media,
                width_px=geometry.width_px,
                height_px=geometry.height_px,
                rotation=geometry.rotation,
            ),
            num_exact=int(decoded.is_exact_F.sum()),
            decoder=name,
            note="; ".join(filter(None, (note, decoded.note))),
            cpu_s=cpu_s,
        )

    def _decode_with(
        self, name: str, media: Media, plan: FramePlan, size: FrameSize
    ) -> tuple[Decoded, NDArray[np.uint8], float]:
        """Return what a decode gave, its pixels and its CPU seconds."""
        path = self._file.path if self._file is not None else media.uri
        timeout_s = self._decode.timeout_s + _DECODE_S_PER_FRAME * media.num_frames
        if self._gpu is not None and name == self._decode.decoder:
            job = GpuJob(
                decoder=name, path=path, media=media, plan=plan, size=size, timeout_s=timeout_s
            )
            found = self._gpu.decode(job)
            return found.result.decoded, found.frames_FHWC, found.result.cpu_s
        self._arena.reserve(len(plan) * size.height_px * size.width_px * 3)
        call = (decode_file, name, path, media, plan, size)
        timed = self._sandbox.call(*call, timeout_s=timeout_s)
        return timed.value, self._arena.take(timed.value.shape), timed.cpu_s


def _has_index(path: str) -> bool:
    """Whether a file on a disk is big and has one index of all its frames."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size <= FULL_BYTES:
            return False
        with Path(path).open("rb", buffering=0) as file:
            fd = file.fileno()
            ranges = header_ranges(lambda start, stop: os.pread(fd, stop - start, start),
                                   status.st_size)  # fmt: skip
    except OSError:
        return False
    return ranges is not None
