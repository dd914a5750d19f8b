"""The container that was probed is decoded from, once, if the file is still the same."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from support.big_videos import ffmpeg
from support.children import open_files, started_by
from vxp_data.core.frame_sampling import uniform
from vxp_data.decoders import kept
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.errors import MediaError
from vxp_data.extras import is_installed
from vxp_data.pipeline.media.reader import MediaReader
from vxp_data.settings.prune import DecodeConfig

CARD = ("-f", "lavfi", "-i", "testsrc2=s=192x108:r=25:d=8")
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "3", "-g", "30")
SIZE = FrameSize(width_px=64, height_px=48)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    made = {name: ffmpeg(folder / name, *CARD, *X264) for name in ("a.mp4", "a.mkv", "a.ts")}
    fragments = ("-movflags", "frag_keyframe+empty_moov")
    made["fragments.mp4"] = ffmpeg(folder / "fragments.mp4", *CARD, *X264, *fragments)
    made["cut.mp4"] = ffmpeg(
        *(folder / "cut.mp4", "-ss", "1.5", "-i", str(made["a.mp4"]), "-c", "copy")
    )
    made["a.gif"] = ffmpeg(folder / "a.gif", *CARD, "-t", "1")
    return made


@pytest.fixture
def opened(monkeypatch):
    """Count how often a container is opened; nothing is kept from before, or after."""
    count, av_open = [], av.open

    def counted(*args, **options):
        count.append(args[0])
        return av_open(*args, **options)

    kept.release()
    monkeypatch.setattr(av, "open", counted)
    yield count
    kept.release()


def descriptors(path):
    """Count this process's open descriptors of a file."""
    return open_files().count(path)


def decode(path, media, plan):
    return PyavDecoder().decode(str(path), media, plan, SIZE).frames_FHWC


def plans(timeline):
    num_frames = len(timeline)
    wanted = (uniform(num_frames, 5), uniform(num_frames, 40), [0], [num_frames - 1], [3, 4])
    return [timeline.plan(np.array(index_F, dtype=np.int64)) for index_F in wanted]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "fragments.mp4", "cut.mp4"])
def test_a_container_is_opened_once_and_gives_the_same_frames(name, videos, opened):
    path = videos[name]
    for plan in plans(probe(str(path), name).timeline):
        opened.clear()
        media = probe(str(path), name, keep_open=True).media
        from_kept = decode(path, media, plan)
        assert len(opened) == 1
        assert descriptors(path) == 0  # it is closed after one decode
        anew = decode(path, media, plan)
        assert len(opened) == 2
        assert (from_kept == anew).all()


@pytest.mark.parametrize("name", ["a.ts", "a.gif"])
def test_what_cannot_be_brought_back_is_opened_anew(name, videos, opened):
    path = videos[name]
    found = probe(str(path), name, keep_open=True)
    assert descriptors(path) == 0
    decode(path, found.media, found.timeline.plan(uniform(len(found.timeline), 5)))
    assert len(opened) == 2


def test_one_container_is_kept_at_most_and_not_when_the_next_file_is_bad(videos, opened, tmp_path):
    for name in ("a.mp4", "a.mkv"):
        probe(str(videos[name]), name, keep_open=True)
    assert (descriptors(videos["a.mp4"]), descriptors(videos["a.mkv"])) == (0, 1)
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    with pytest.raises(MediaError):
        probe(str(tmp_path / "bad.mp4"), "bad.mp4", keep_open=True)
    assert descriptors(videos["a.mkv"]) == 0
    assert len(opened) == 3


@pytest.mark.parametrize("change", ["written over", "replaced", "another"])
def test_a_file_that_changed_is_opened_anew(change, videos, opened, tmp_path):
    path = Path(shutil.copy(videos["a.mp4"], tmp_path))
    found = probe(str(path), "a.mp4", keep_open=True)
    plan = found.timeline.plan(uniform(len(found.timeline), 5))
    if change == "written over":
        path.write_bytes(path.read_bytes())
        os.utime(path, ns=(0, 0))
    elif change == "replaced":
        Path(shutil.copy(path, tmp_path / "b.mp4")).replace(path)
    else:
        path = Path(shutil.copy(path, tmp_path / "b.mp4"))
    frames = decode(path, found.media, plan)
    assert len(opened) == 2
    assert (frames == decode(videos["a.mp4"], found.media, plan)).all()


@pytest.mark.parametrize(("decoder", "held"), [("pyav", 1), ("decord", 0)])
def test_a_reader_keeps_a_file_open_for_pyav_alone(decoder, held, videos):
    path = videos["a.mp4"]
    if decoder == "decord" and not is_installed("decord"):
        pytest.skip("decord is not installed")
    config = DecodeConfig(decoder=decoder, fallback=None)
    with closing(MediaReader(config)) as reader:
        child = started_by(lambda: reader.probe(str(path), is_image=False))
        assert open_files(child).count(path) == held
        found = reader.probe(str(path), is_image=False).value
        plan = found.timeline.plan(uniform(len(found.timeline), 5))
        reader.decode(found.media, plan, SIZE)
        assert open_files(child).count(path) == 0
