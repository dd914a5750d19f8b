"""Clips of a video whose pictures stay for seconds: slides, each of its own colour."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vxp_data.pipeline.media.clips import ClipFrames, ClipReader, MediaItem
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FramesConfig

LEVELS = (20, 80, 140, 200)
BEGIN_S = (0.0, 4.0, 9.0, 15.0)
END_S = 20.0


@pytest.fixture(scope="module", params=["mkv", "mp4"])
def slides(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Four grey slides at 0, 4, 9 and 15 s, the last for 5 s."""
    path = tmp_path_factory.mktemp("slides") / f"slides.{request.param}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"g": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        durations = dict(zip(BEGIN_S, np.diff([*BEGIN_S, END_S]).tolist(), strict=True))
        for level, begin_s in zip(LEVELS, BEGIN_S, strict=True):
            image = np.full((48, 64, 3), level, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = round(begin_s * 1000), Fraction(1, 1000)
            for packet in stream.encode(frame):
                _mux(container, packet, durations)
        for packet in stream.encode():
            _mux(container, packet, durations)
    return path


def _mux(
    container: av.container.OutputContainer, packet: av.Packet, durations: dict[float, float]
) -> None:
    at_s = float(packet.pts * packet.time_base)
    packet.duration = round(durations[round(at_s, 3)] / packet.time_base)
    container.mux(packet)


def read(path: Path, *clips_s: tuple[float, float]) -> list[ClipFrames]:
    item = MediaItem(uri=str(path), is_image=False, clips_s=clips_s, file_version="")
    with ClipReader(FramesConfig(), DecodeConfig(), frame_px=32) as reader:
        return list(reader.read(item))


def levels(clip: ClipFrames) -> list[int]:
    """Which slides are in a clip's frames."""
    assert clip.frames_FHWC is not None, clip.message
    means = clip.frames_FHWC.mean(axis=(1, 2, 3))
    return [int(np.abs(np.array(LEVELS) - mean).argmin()) for mean in means]


def test_a_clip_has_what_is_on_screen_in_it(slides: Path) -> None:
    clips = read(slides, (5.0, 8.0), (5.0, 12.0), (4.0, 9.0), (16.0, 19.0), (0.0, np.inf))
    assert [levels(clip) for clip in clips] == [[1], [1, 2], [1], [3], [0, 1, 2, 3]]
    assert [clip.time_s_F.tolist() for clip in clips[:2]] == [[4.0], [4.0, 9.0]]  # their own times
    assert all(clip.frames_exact == len(clip.time_s_F) for clip in clips)


def test_a_clip_is_outside_from_the_end_of_the_video_on(slides: Path) -> None:
    before, at, after = read(slides, (19.99, 25.0), (20.0, 25.0), (30.0, np.inf))
    assert levels(before) == [3]
    assert [clip.reason for clip in (at, after)] == [Reason.OUTSIDE_CLIP] * 2
    assert at.message == "nothing is shown in [20 s, 25 s); the video has 20.000 s"
