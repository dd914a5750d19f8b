"""Where a benchmark's videos are found, and which of their frames are shown."""

import numpy as np
import pytest

from support.mllm_videos import write_colours
from vxp_data.records import Reason
from vxp_model.data.video import UnreadableVideoError
from vxp_model.eval.media import MediaFolder, VideoReader, VideoSource, plan_frames
from vxp_model.settings.eval import FrameSettings


def touched(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return MediaFolder(str(root))


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("v/a.mp4", ["v/a.mp4", "w/a.mp4"], "v/a.mp4"),  # the path itself
        ("v/a.mp4", ["v/a.MP4"], "v/a.MP4"),
        ("v/a.mp4", ["v/a.mkv", "a.mp4"], "v/a.mkv"),  # beside, before anywhere
        ("v/a.mp4", ["deep/er/a.webm"], "deep/er/a.webm"),
        ("aBc.mp4", ["x/aBc.mkv", "x/abc.mkv"], "x/aBc.mkv"),  # two videos, not one
    ],
)
def test_a_video_is_found_where_it_was_repacked(tmp_path, wanted, there, found):
    assert touched(tmp_path, *there).find(wanted) == str(tmp_path / found)


@pytest.mark.parametrize(
    ("there", "why"),
    [(["b.mp4", "a.txt"], "no such video"), (["x/a.mp4", "y/a.mp4"], "which of 2 of that name")],
)
def test_none_or_several_of_a_name_are_missing(tmp_path, there, why):
    with pytest.raises(UnreadableVideoError, match=why) as told:
        touched(tmp_path, *there).find("v/a.mp4")
    assert told.value.reason == Reason.MISSING


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_colours(tmp_path_factory.mktemp("clip") / "c.mp4", num_frames=90, fps=2))


@pytest.fixture(scope="module")
def reader():
    reader = VideoReader()
    yield reader
    reader.close()


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"fps": 1.0}, 45),
        ({"fps": 1.0, "max_frames": 20}, 20),
        ({"num_frames": 7}, 7),
        ({"num_frames": 7, "multiple_of": 4}, 4),
        ({"num_frames": 3, "multiple_of": 4}, 3),  # never all are left out
        ({"num_frames": 8, "multiple_of": 4}, 8),
    ],
)
def test_as_many_frames_are_planned_as_the_settings_say(reader, clip, settings, number):
    plan = plan_frames(reader, clip, "c.mp4", FrameSettings(**settings))
    assert len(plan.frame_index) == len(plan.time_s) == number
    assert plan.duration_s == pytest.approx(45.0)
    assert plan.num_bytes > 0


def test_a_source_gives_the_planned_frames_again_and_again(reader, clip):
    plan = plan_frames(reader, clip, "c.mp4", FrameSettings(num_frames=6))
    source = VideoSource(reader, clip, plan)
    first = np.concatenate(list(source.pieces(frame_px=56, piece_frames=4)))
    again = np.concatenate(list(source.pieces(frame_px=56, piece_frames=6)))
    assert first.shape == (6, 56, 56, 3)
    assert (first == again).all()
    (own,) = source.pieces(frame_px=None, piece_frames=8)
    assert own.shape[1:3] == (plan.height_px, plan.width_px)


def test_what_is_no_video_has_its_reason(reader, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not a video" * 50)
    with pytest.raises(UnreadableVideoError) as told:
        plan_frames(reader, str(tmp_path / "a.mp4"), "a.mp4", FrameSettings())
    assert told.value.reason == Reason.NOT_VIDEO
