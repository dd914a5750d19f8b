"""Clips of which frames do not come: counted, shown, and quarantined where that is asked for."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from vxp_data.pipeline.media.clips import ClipReader, MediaItem
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FramesConfig

NUM_FRAMES, NUM_LOST = 40, 8


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A VP8 video of 40 key frames, 8 of which cannot be read."""
    path = tmp_path_factory.mktemp("damaged") / "clip.webm"
    options = {"g": "1", "deadline": "realtime", "auto-alt-ref": "0", "threads": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(NUM_FRAMES):
            grey = np.full((48, 64, 3), 5 * number + 20, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos, packet.size) for packet in packets]
    with path.open("r+b") as file:
        for pos, num_bytes in places[10 : 10 + NUM_LOST]:
            file.seek(pos + 4)
            file.write(b"\xff" * num_bytes)
    return path


def read(path, **decode):
    settings = DecodeConfig(fallback=None, **decode)
    with ClipReader(FramesConfig(num_frames=NUM_FRAMES), settings, 32) as reader:
        item = MediaItem(uri=str(path), is_image=False, clips_s=((0.0, np.inf),), file_version="")
        return next(iter(reader.read(item)))


@pytest.mark.parametrize("most", [None, 0.2, 1.0])
def test_lost_frames_are_counted_and_the_clip_stays(most, damaged):
    clip = read(damaged, max_inexact_share=most)
    assert clip.reason is None
    assert (clip.frames_exact, len(clip.frame_index_F)) == (NUM_FRAMES - NUM_LOST, NUM_FRAMES)
    grey_F = clip.frames_FHWC.mean(axis=(1, 2, 3))
    assert np.abs(grey_F[10:18] - grey_F[9]).max() < 1  # the nearest earlier one
    assert grey_F[18] > grey_F[9] + 30


@pytest.mark.parametrize("most", [0.0, 0.19])
def test_a_clip_of_which_more_is_lost_is_quarantined(most, damaged):
    clip = read(damaged, max_inexact_share=most)
    assert clip.reason is Reason.INEXACT
    assert clip.frames_FHWC is None
    assert clip.message == (
        f"8 of 40 frames could not be decoded; decode.max_inexact_share is {most:g}"
    )
