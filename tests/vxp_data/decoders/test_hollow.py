"""A file's timeline by its index is that of a pass over its images, which are not read."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from support.big_videos import ffmpeg
from vxp_data.decoders.hollow import HollowFile
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.errors import MediaError
from vxp_data.pipeline.media.mp4_boxes import header_ranges
from vxp_data.storage import digest

CARD = ("-f", "lavfi", "-i", "testsrc2=s=192x108:r=25:d=6", "-f", "lavfi", "-i", "sine=d=6")
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
VIDEOS = {
    "b_frames.mp4": (*X264, "-bf", "3", "-g", "25"),
    "header_first.mp4": (*X264, "-movflags", "+faststart", "-c:a", "aac"),
    "open_gop.mp4": (*X264, "-x264-params", "open-gop=1:keyint=12:bframes=3:scenecut=0"),
    "vfr.mov": (*X264, "-vf", "select=not(mod(n\\,7))+not(mod(n\\,4))", "-fps_mode", "vfr"),
    "in_band.mp4": (*X264, "-tag:v", "avc3", "-c:a", "aac"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "keyint=20:log-level=error", "-tag:v", "hvc1"),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-bf", "2", "-g", "15"),
    "h263.3gp": ("-c:v", "h263", "-s", "176x144", "-an"),
    "vp9.mp4": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "prores.mov": ("-c:v", "prores_ks"),
}


@pytest.fixture(autouse=True)
def few_bytes_of_the_digest(monkeypatch):
    """Hash so little that small files have images that are not read."""
    monkeypatch.setattr(digest, "CHUNK_BYTES", 2000)


@pytest.fixture(scope="module", params=[*VIDEOS, "edit_list.mp4"])
def video(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    if request.param in VIDEOS:
        return ffmpeg(folder / request.param, *CARD, *VIDEOS[request.param])
    whole = ffmpeg(folder / "whole.mp4", *CARD, *VIDEOS["b_frames.mp4"])
    return ffmpeg(folder / request.param, "-ss", "1.5", "-i", str(whole), "-c", "copy")


def differences(one, other):
    """Name the fields of two records that are not equal."""
    for field in dataclasses.fields(one):
        pair = getattr(one, field.name), getattr(other, field.name)
        if field.name not in ("media_id", "by_index") and not np.array_equal(*pair):
            yield field.name


def probe_hollow(path):
    with HollowFile(str(path)) as hollow:
        return probe(str(path), "clip", hollow=hollow)


def test_facts_and_timeline_are_those_of_a_pass_over_the_file(video):
    whole, by_index = probe(str(video), "clip"), probe_hollow(video)
    assert not list(differences(whole.media, by_index.media))
    assert not list(differences(whole.timeline, by_index.timeline))
    assert (whole.timeline.by_index, by_index.timeline.by_index) == (False, True)
    assert by_index.media.media_id == digest.sampled_digest(video)
    assert whole.media.has_edit_list == (video.name == "edit_list.mp4")


def test_images_are_not_read(video, monkeypatch):
    """Beyond the header, the digest's parts, and what FFmpeg looks at to open a file."""
    content = video.read_bytes()
    header = header_ranges(lambda start, stop: content[start:stop], len(content))
    sought, pread = [], os.pread

    def counted(fd, num_bytes, at):
        if at > len(content) // 5 and not any(start <= at < stop for start, stop in header):
            sought.append(at)
        return pread(fd, num_bytes, at)

    probe_hollow(video)
    parts = {start for start, _ in digest.sampled_ranges(len(content))}
    monkeypatch.setattr(os, "pread", counted)
    found = probe_hollow(video)
    assert set(sought) <= parts
    assert found.media.num_frames > 40


def test_an_index_that_is_wrong_about_images_that_are_read_is_refused(tmp_path):
    video = ffmpeg(tmp_path / "a.mp4", *CARD, *X264, "-g", "5", "-an")
    video.write_bytes(video.read_bytes().replace(b"stss", b"free"))
    with pytest.raises(MediaError, match="unsupported: the index is wrong about key frames"):
        probe_hollow(video)


def test_recovery_points_pass_for_key_frames_until_they_are_decoded(tmp_path):
    """An index calls them key; only the image itself tells, and the decoder looks at it."""
    params = ("-x264-params", "intra-refresh=1:keyint=25:bframes=0")
    video = ffmpeg(tmp_path / "a.mp4", *CARD, *X264, *params)
    by_index, whole = probe_hollow(video), probe(str(video), "clip")
    assert by_index.timeline.is_key_N.sum() > whole.timeline.is_key_N.sum() == 1
    last = np.array([len(whole.timeline) - 1])
    with pytest.raises(MediaError, match="key frames are not where the index has them"):
        PyavDecoder().decode(str(video), by_index.media, by_index.timeline.plan(last), None)
    plan = whole.timeline.plan(last)
    assert PyavDecoder().decode(str(video), whole.media, plan, None).is_exact_F.all()


def outcome(probing, *arguments):
    """Return a probe, or why there is none."""
    try:
        return probing(*arguments)
    except MediaError as error:
        return str(error)


def test_corpus_files_have_the_timeline_of_a_pass_or_the_reason_of_one(corpus):
    num_by_index, wrong, images_needed = 0, [], set()
    for path in sorted(path for path in corpus.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if header_ranges(lambda start, stop: content[start:stop], len(content)) is None:  # noqa: B023
            continue
        whole, found = outcome(probe, str(path), "clip"), outcome(probe_hollow, path)
        if found == "unsupported: the index does not tell frames and times":
            images_needed.add(path.name)
            continue
        if isinstance(whole, str) or isinstance(found, str):
            assert whole == found
            continue
        if whole.media.gradual_refresh:  # recovery points are told when they are decoded
            continue
        num_by_index += found.timeline.timed
        wrong += [(path.name, name) for name in differences(whole.media, found.media)]
        assert whole.timeline.timed
        assert whole.timeline.mended is None
        wrong += [(path.name, name) for name in differences(whole.timeline, found.timeline)]
    assert wrong == []
    assert images_needed <= {"interlaced_mbaff.mp4", "LLaVA-NeXT__code.mp4"}  # fields; two edits
    assert num_by_index > 50
