"""Measure what a long local MP4 costs to read: by its index, and by a pass over the whole file.

    python pipelines/bench/by_index.py CLIP [--seconds 3600]

The clip, an MP4, is repeated without encoding it again. What is counted is what the decoding child
reads, of whatever file, and the CPU time that it takes. Both ways must give the same media and the
same frames.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import records

from vxp_data.core.frame_sampling import Seek, plan_indices, uniform
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.probe import Probe
from vxp_data.pipeline.media.reader import MediaReader, PlannedFrames
from vxp_data.settings.prune import DecodeConfig

SIZE = FrameSize(width_px=384, height_px=384)
SEEKS: tuple[Seek, ...] = ("exact", "keyframe")


def repeated(clip: Path, seconds: int, out: Path) -> Path:
    """Write a clip again and again, up to a length."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "-1"]
    subprocess.run(
        [*command, "-i", str(clip), "-c", "copy", "-t", str(seconds), str(out)], check=True
    )
    return out


def measure(
    reader: MediaReader, path: Path, seek: Seek, *, by_index: bool
) -> tuple[dict[str, Any], Probe, PlannedFrames]:
    """Probe, plan and decode 20 frames; return what that took, and what came."""
    begun = _bytes_read()
    probed = reader.probe(str(path), is_image=False, by_index=by_index)
    after_probe = _bytes_read()
    timeline = probed.value.timeline
    index_F = plan_indices(
        timeline.time_s_N, timeline.is_key_N, sampler=uniform, num_frames=20, seek=seek
    )
    planned = reader.decode(probed.value.media, timeline.plan(index_F), SIZE)
    facts = {
        "probe_mb_read": _mb(after_probe - begun),
        "decode_mb_read": _mb(_bytes_read() - after_probe),
        "probe_cpu_s": round(probed.cpu_s, 3),
        "decode_cpu_s": round(planned.cpu_s, 3),
    }
    return facts, probed.value, planned


def _bytes_read() -> int:
    """Return what the reader's child has read since it started."""
    (child,) = active_children()
    return int(Path(f"/proc/{child.pid}/io").read_text().split()[1])


def _mb(num_bytes: int) -> float:
    return round(num_bytes / 1e6, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both ways and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clip", type=Path, metavar="CLIP", help="an MP4")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--out", type=Path, default=records.RUNS / "by-index.json")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, closing(MediaReader(DecodeConfig())) as reader:
        path = repeated(options.clip, options.seconds, Path(folder) / "long.mp4")
        reader.probe(str(options.clip), is_image=False)  # starts the child, which loads FFmpeg
        figures: dict[str, Any] = {"file_mb": _mb(path.stat().st_size)}
        for seek in SEEKS:
            by_index, index_probe, index_frames = measure(reader, path, seek, by_index=True)
            whole, probe, frames = measure(reader, path, seek, by_index=False)
            same = np.array_equal(index_frames.frames_FHWC, frames.frames_FHWC)
            figures["frames_in_file"] = probe.media.num_frames
            figures[seek] = {
                "by_index": by_index,
                "whole_pass": whole,
                "same_media": index_probe.media == probe.media,
                "same_frames": bool(same),
            }
    for name, value in figures.items():
        print(f"{name}: {value}")
    command = ["pipelines/bench/by_index.py", str(options.clip), "--seconds", str(options.seconds)]
    records.write_record(options.out.stem, figures, argv=command, folder=options.out.parent)


if __name__ == "__main__":
    main()
