"""A few of the inputs of `make fuzz` in every test run; `support/fuzz.py` says what they are."""

from __future__ import annotations

import io
import random
import shutil
import signal
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from support import fuzz, fuzz_headers
from support.fuzz import Tally
from support.shard_fixtures import make_image, make_video
from vxp_data.decoders.probe import probe

NUM_MEDIA, NUM_OTHER = 60, 300


def assert_clean(tally: Tally, inputs: int) -> None:
    assert tally.failures == []
    assert tally.inputs == sum(tally.outcomes.values()) == inputs


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    video = make_video(folder / "a.mp4", 20)
    for suffix in (".mkv", ".ts", ".avi", ".gif"):
        fuzz.remux(video, folder / f"a{suffix}")
    make_image(folder / "a.png")
    return folder


def test_damaged_media_are_read_or_have_a_reason(videos):
    bases = fuzz.media_bases(videos)
    tally = fuzz.fuzz("media", bases, range(NUM_MEDIA), fuzz.read_media, headers=True)
    assert_clean(tally, NUM_MEDIA)
    assert (
        5 < tally.outcomes["read by pyav"] < NUM_MEDIA - 5
    )  # the damage is neither mild nor total


def test_damaged_media_of_the_corpus_are_read_or_have_a_reason(corpus):
    bases = fuzz.media_bases(corpus)
    assert_clean(fuzz.fuzz("corpus", bases, range(40), fuzz.read_media, headers=True), 40)


def test_damaged_manifests_are_rows_or_one_error(tmp_path):
    bases = fuzz.manifest_bases(tmp_path)
    assert_clean(fuzz.fuzz("rows", bases, range(NUM_OTHER), fuzz.read_manifest), NUM_OTHER)


def test_damaged_shards_are_clips_or_one_error(tmp_path):
    bases = fuzz.shard_bases(tmp_path)
    assert_clean(fuzz.fuzz("shards", bases, range(NUM_OTHER), fuzz.read_shard), NUM_OTHER)


def test_an_input_depends_on_its_number_and_seed_only(videos):
    bases = fuzz.media_bases(videos)
    one = [fuzz.damaged(f"media 0 {i}", bases, headers=True) for i in range(20)]
    assert one == [fuzz.damaged(f"media 0 {i}", bases, headers=True) for i in range(20)]
    assert len({data for data, _, _ in one}) > 15


def test_retagged_videos_can_be_decoded_and_name_matrices_that_swscale_refuses(videos):
    """The kind of file that once ended runs is among the inputs of `make fuzz`."""
    whole = bytearray((videos / "a.mp4").read_bytes())
    matrices = []
    for number in range(30):
        data = fuzz_headers.retag_stream(random.Random(number), bytearray(whole), b"")
        with av.open(io.BytesIO(bytes(data))) as made, suppress(av.FFmpegError):
            matrices.append(int(next(made.decode(video=0)).colorspace))
    assert len(matrices) > 20
    assert len({3, 8, *range(10, 18)}.intersection(matrices)) > 2
    assert len({1, 4, 5, 6, 7, 9}.intersection(matrices)) > 2


def test_a_field_of_a_header_is_changed_where_it_lies():
    box = b"\0\0\0\x13colrnclx" + bytes.fromhex("000100010001") + b"\0"
    made = {
        bytes(fuzz_headers.set_header_fields(random.Random(i), bytearray(b"head" + box), b""))
        for i in range(40)
    }
    assert len(made) > 20
    assert all(data[:16] == b"head" + box[:12] and len(data) == 23 for data in made)


def test_hangs_exceptions_and_wrong_rows_are_counted(videos):
    handler = signal.getsignal(signal.SIGALRM)

    def read(path: Path, _: object) -> tuple[str, str]:
        if path.stem == "0":
            with fuzz.alarm(0.2):
                time.sleep(30)
        if path.stem == "1":
            raise ZeroDivisionError
        return "read", "size" if path.stem == "2" else ""

    tally = fuzz.fuzz("media", fuzz.media_bases(videos), range(4), read)
    assert [len(found) for found in (tally.hangs, tally.escaped, tally.wrong)] == [1, 1, 1]
    assert dict(tally.outcomes) == {"hang": 1, "escaped": 1, "read": 2}
    figures = tally.figures()
    assert figures["hangs_past_the_limit"] == figures["exceptions_that_would_end_a_run"] == 1
    assert signal.getsignal(signal.SIGALRM) is handler


def test_the_record_says_what_was_tried(videos, tmp_path, capsys):
    shutil.copytree(videos, tmp_path / "videos")
    out = tmp_path / "fuzz.json"
    assert fuzz.main([str(tmp_path / "videos"), "-n", "4", "--out", str(out)]) == 0
    assert '"inputs": 4' in capsys.readouterr().out
    assert '"hangs_past_the_limit": 0' in out.read_text()
    assert str(tmp_path) not in out.read_text()


def test_a_stream_that_turns_up_on_the_way_is_left_out(tmp_path):
    """PyAV stops there with an IndexError; it takes more than FFmpeg looks at beforehand, 5 MB."""
    one, two = tmp_path / "one.ts", tmp_path / "two.ts"
    rng = np.random.default_rng(0)
    for path, num_streams, num_frames in ((one, 1, 24), (two, 2, 8)):
        with av.open(str(path), "w") as made:
            options = {"qscale": "1", "flags": "qscale", "global_quality": "118"}
            streams = [made.add_stream("mpeg2video", 25, options) for _ in range(num_streams)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
                stream.gop_size = 1
            for number in range(num_frames):
                for stream in streams:
                    noise = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
                    frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    made.mux(stream.encode(frame))
            for stream in streams:
                made.mux(stream.encode(None))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    with av.open(str(joined)) as given, pytest.raises(IndexError):
        list(given.demux(given.streams.video[0]))
    assert probe(str(joined), "joined").media.num_frames > 24
    outcome, wrong = fuzz.read_media(joined, fuzz.job_settings(tmp_path))
    assert (outcome, wrong) == ("read by pyav", "")
