"""decord: the library that most video training code reads with; here a second opinion.

Its FFmpeg is of 2021, and it takes a packet's position in the file for the frame's index in time.
Measured on awkward files, it hangs on GIF, reorders MPEG-TS, ignores edit lists and gives other
frames than those asked for in open groups of images, after recovery points and in fragmented files;
it says `unsupported` there. It hangs while holding the GIL, so it is only ever run where SIGKILL
can end it.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.decoders.base import DecodedFrames, FramePlan, FrameSize
from vxp_data.errors import MediaError, UserError
from vxp_data.extras import is_installed
from vxp_data.records import Media, Reason

_WRONG_CONTAINERS: Final = frozenset({"gif", "mpegts", "mpeg", "h264", "hevc", "mpegvideo"})
_WRONG_CODECS: Final = frozenset({"libdav1d", "av1", "apng", "gif", "webp", "png", "mjpeg"})
_MORE_BITS: Final = re.compile(r"p(9|1\d)")  # yuv420p10le: colours are off by 6 of 255
_LOG_PREFIX: Final = re.compile(r"^\[[0-9:]+\] \S+: ")


class DecordDecoder:
    """Decodes with `decord.VideoReader`, by frame index."""

    name = "decord"

    def check(self) -> None:
        """Check that decord is installed; it brings its own FFmpeg."""
        if not is_installed("decord"):
            raise UserError(
                "decoder 'decord' is not installed here; it has wheels for x86_64 alone. Choose "
                "another: --set decode.decoder=pyav --set decode.fallback=null."
            )

    def supports(self, media: Media) -> bool:
        """Whether decord gives the right frames: indexed, closed groups, 8 bits, no AV1.

        It chooses among several streams by a rule of its own, and never crops.
        """
        return media.frames_indexed and not (
            media.has_edit_list
            or media.has_crop
            or media.num_video_streams > 1
            or media.time_note != ""
            or _MORE_BITS.search(media.pixel_format) is not None
            or media.open_gop
            or media.gradual_refresh
            or media.container in _WRONG_CONTAINERS
            or media.codec in _WRONG_CODECS
        )

    def decode(
        self,
        path: str,
        media: Media,
        plan: FramePlan,
        size: FrameSize | None,
    ) -> DecodedFrames:
        """Decode the planned frames; see `Decoder.decode`."""
        import decord  # here: it loads FFmpeg and starts a logger

        decord.logging.set_level(decord.logging.QUIET)
        width_px, height_px = (size.width_px, size.height_px) if size else (-1, -1)
        try:
            reader = decord.VideoReader(
                path, ctx=decord.cpu(0), width=width_px, height=height_px, num_threads=1
            )
            if len(reader) != media.num_frames:
                raise MediaError(
                    Reason.UNSUPPORTED,
                    f"decord counts {len(reader)} frames, the container has {media.num_frames}",
                )
            frames: NDArray[np.uint8] = reader.get_batch(plan.frame_index_F.tolist()).asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            raise MediaError(Reason.DECODE_FAILED, f"decord: {_first_line(error)}") from error
        return DecodedFrames(
            frames_FHWC=frames, is_exact_F=np.ones(len(plan), dtype=np.bool_), geometry=None
        )


def _first_line(error: BaseException) -> str:
    """Return decord's first line without clock and source line: a message must be repeatable."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _LOG_PREFIX.sub("", line)[:200]
