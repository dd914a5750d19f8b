"""Videos of more bytes than are read whole: images that do not compress, a few seconds of them."""

from __future__ import annotations

import math
import subprocess
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from vxp_data.pipeline.media.clips import ClipFrames, ClipReader, MediaItem
from vxp_data.storage.digest import FULL_BYTES

WHOLE = ((0.0, math.inf),)


def ffmpeg(out: Path, *arguments: str) -> Path:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments, str(out)]
    subprocess.run(command, check=True, timeout=120)
    return out


def noise(size: str, fps: int, seconds: int) -> tuple[str, ...]:
    """Return an image that does not compress, so that a few seconds are a big file; and a tone."""
    image = f"testsrc2=s={size}:r={fps}:d={seconds},noise=alls=90:allf=t"
    return ("-f", "lavfi", "-i", image, "-f", "lavfi", "-i", f"sine=d={seconds}")


def make_big(out: Path) -> Path:
    """Make a file so big that it is read in parts: a key frame every other frame, and sound."""
    h264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "4")
    codec = ("-c:v", "mpeg4", "-q:v", "1") if out.stem == "mpeg4" else h264
    first = ("-movflags", "+faststart") if out.stem.endswith("first") else ()
    made = ffmpeg(
        *(out, *noise("640x360", 25, 8), *codec, "-g", "2", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", *first),
    )
    assert made.stat().st_size > FULL_BYTES
    return made


def read_one(reader: ClipReader, uri: Path | str, file_version: str = "") -> ClipFrames:
    item = MediaItem(uri=str(uri), is_image=False, clips_s=WHOLE, file_version=file_version)
    (clip,) = list(reader.read(item))
    return clip


def assert_same(one: ClipFrames, other: ClipFrames) -> None:
    """Compare all that a clip has, but where it lay and what that cost."""
    assert (one.reason, one.message) == (other.reason, other.message)
    assert replace(one.media, uri="") == replace(other.media, uri="")
    assert one.timeline == other.timeline
    assert (one.decoder, one.frames_exact) == (other.decoder, other.frames_exact)
    np.testing.assert_array_equal(one.frame_index_F, other.frame_index_F)
    np.testing.assert_array_equal(one.time_s_F, other.time_s_F)
    if other.frames_FHWC is None:
        assert one.frames_FHWC is None
    else:
        assert one.frames_FHWC is not None
        np.testing.assert_array_equal(one.frames_FHWC, other.frames_FHWC)
