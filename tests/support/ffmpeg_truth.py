"""The frames of a video as an ffmpeg program gives them that shares no code path with ours."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 96
"""Small, so that every frame of a long video fits; large enough to tell neighbours apart."""

_SHOWN = re.compile(rb"showinfo[^\n]* n: *\d+ pts: *(?:NOPTS|-?\d+) +pts_time: *(\S+)")

FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
"""How we scale too: what differs is then the decode, not the filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Every frame of a video's first stream, displayed way up, in presentation order."""

    frames_NHWC: NDArray[np.uint8]
    """Memory-mapped: a long video costs disk, not memory."""
    time_s_N: NDArray[np.float64]
    """The container's own times; NaN where there is none."""

    def __len__(self) -> int:
        return len(self.time_s_N)

    def places_of(self, time_s_F: NDArray[np.float64]) -> NDArray[np.int64]:
        """Find the frame shown at each time, within a tenth of a millisecond; -1 for none."""
        away_FN = np.abs(time_s_F[:, None] - self.time_s_N[None, :])
        near_F = np.where(np.isnan(away_FN), np.inf, away_FN).argmin(axis=1)
        found_F = away_FN[np.arange(len(time_s_F)), near_F] <= 1e-4
        return np.where(found_F, near_F, -1)


def decode(path: Path, scratch: Path, side_px: int = SIDE_PX, timeout_s: float = 240) -> Truth:
    """Decode a whole video, squashed to a square, through a pipe.

    Args:
        path: the video.
        scratch: a new file that takes the raw frames.
        side_px: side of the square.
        timeout_s: wall-clock limit.
    """
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-nostats", "-copyts"),
        *("-threads", "2", "-i", f"file:{path}", "-map", "0:V:0", "-fps_mode", "passthrough"),
        *(
            "-vf",
            f"scale={side_px}:{side_px}:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24,showinfo=checksum=0",
        ),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"),
    ]
    with scratch.open("wb") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, timeout=timeout_s, check=False
        )
    frame_bytes = side_px * side_px * 3
    num_frames = scratch.stat().st_size // frame_bytes
    time_s_N = np.array(
        [float(t) if t != b"NOPTS" else np.nan for t in _SHOWN.findall(done.stderr)]
    )
    if len(time_s_N) != num_frames:
        tail = done.stderr[-2000:].decode(errors="replace")
        raise RuntimeError(f"{path}: {num_frames} frames, {len(time_s_N)} times:\n{tail}")
    shape = (num_frames, side_px, side_px, 3)
    if not num_frames:
        return Truth(frames_NHWC=np.zeros(shape, dtype=np.uint8), time_s_N=time_s_N)
    frames_NHWC = np.memmap(scratch, dtype=np.uint8, mode="r", shape=shape)
    return Truth(frames_NHWC=frames_NHWC, time_s_N=time_s_N)
