"""Media in a real S3 server: what they give is what they give on a disk, for fewer bytes."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.big_videos import assert_same, ffmpeg, make_big, noise, read_one
from support.s3 import Bucket
from vxp_data.errors import MediaError, UserError
from vxp_data.pipeline.media import fetch as fetch_module
from vxp_data.pipeline.media import reader as media_reader
from vxp_data.pipeline.media.clips import ClipReader, MediaItem
from vxp_data.pipeline.media.fetch import Fetcher
from vxp_data.pipeline.media.mp4_boxes import header_ranges
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FetchConfig, FramesConfig
from vxp_data.storage.digest import FULL_BYTES, content_digest
from vxp_data.storage.file_versions import file_versions


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of H.264."""
    out = tmp_path_factory.mktemp("small") / "small.mp4"
    return ffmpeg(out, *noise("160x120", 10, 2), "-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_big(tmp_path_factory.mktemp("big") / "h264-header-last.mp4")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def reader(scratch: Path) -> Iterator[ClipReader]:
    fetch = FetchConfig(scratch_dir=str(scratch), attempts=3, timeout_s=10)
    with ClipReader(FramesConfig(), DecodeConfig(), 96, fetch) as reader:
        yield reader


def held(scratch: Path) -> list[str]:
    """Name the media that lie in the scratch folder."""
    return [path.name for path in scratch.rglob("media*")]


def test_a_small_file_is_fetched_once_and_whole(
    s3: Bucket, small: Path, reader: ClipReader, scratch: Path
) -> None:
    uri = s3.put("v/small.mp4", small.read_bytes())
    clip = read_one(reader, uri, file_version="12-etag")
    assert_same(clip, read_one(reader, small))
    assert clip.media.uri == uri
    assert clip.media.media_id == content_digest(small)
    assert clip.file_version == "12-etag"
    assert clip.bytes_fetched == small.stat().st_size
    assert [request.method for request in s3.requests] == ["HEAD", "GET"]
    assert held(scratch) == []


@pytest.mark.parametrize("kind", ["h264-header-first", "h264-header-last", "mpeg4"])
def test_a_big_file_is_fetched_in_parts_and_gives_the_same_frames(
    s3: Bucket, kind: str, reader: ClipReader, scratch: Path, tmp_path: Path
) -> None:
    big = make_big(tmp_path / f"{kind}.mp4")
    uri = s3.put(f"v/{big.name}", big.read_bytes())
    clip = read_one(reader, uri)
    assert_same(clip, read_one(reader, big))
    assert clip.media.media_id == content_digest(big)
    assert clip.frames_exact == 20
    num_bytes = big.stat().st_size
    sent = sum(request.bytes_sent for request in s3.requests if request.method == "GET")
    assert sent == clip.bytes_fetched < 0.6 * num_bytes
    assert held(scratch) == []


def test_clips_of_one_big_file_share_what_is_fetched(
    s3: Bucket, big: Path, reader: ClipReader
) -> None:
    uri = s3.put(f"v/{big.name}", big.read_bytes())
    clips_s = ((0.0, 1.0), (2.0, 3.0), (2.0, 3.0))
    item = MediaItem(uri=uri, is_image=False, clips_s=clips_s, file_version="")
    there = MediaItem(uri=str(big), is_image=False, clips_s=clips_s, file_version="")
    clips = list(reader.read(item))
    for clip, local in zip(clips, reader.read(there), strict=True):
        assert_same(clip, local)
    assert clips[0].bytes_fetched > 0
    assert clips[2].bytes_fetched == 0


def test_a_big_file_whose_index_lies_is_fetched_whole(
    s3: Bucket, big: Path, reader: ClipReader, tmp_path: Path
) -> None:
    """Without its list of key frames a file claims that every frame is one."""
    data = big.read_bytes()
    at = data.index(b"stss")
    liar = tmp_path / "liar.mp4"
    liar.write_bytes(data[:at] + b"free" + data[at + 4 :])
    clip = read_one(reader, s3.put("liar.mp4", liar.read_bytes()))
    assert clip.bytes_fetched == len(data)
    assert_same(clip, read_one(reader, liar))


def test_a_big_file_that_is_no_mp4_is_fetched_whole(
    s3: Bucket, reader: ClipReader, tmp_path: Path
) -> None:
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-pix_fmt", "yuv420p")
    made = ffmpeg(tmp_path / "big.mkv", *noise("640x360", 25, 10), *codec)
    assert made.stat().st_size > FULL_BYTES
    clip = read_one(reader, s3.put("big.mkv", made.read_bytes()))
    assert clip.bytes_fetched == made.stat().st_size
    assert_same(clip, read_one(reader, made))


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "cut"},
        {"kind": "short"},
        {"kind": "lost"},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
def test_a_store_that_fails_now_and_then_changes_nothing(
    s3: Bucket, small: Path, reader: ClipReader, scratch: Path, fault: dict[str, Any]
) -> None:
    uri = s3.put("small.mp4", small.read_bytes())
    struck = s3.fail(**fault, method="GET", times=2)
    assert_same(read_one(reader, uri), read_one(reader, small))
    assert struck.met == 2
    s3.heal()
    s3.fail(**fault, method="GET", times=99)
    clip = read_one(reader, uri)
    assert clip.reason is Reason.FETCH_FAILED
    assert "(3 attempts): s3://" in clip.message
    assert held(scratch) == []


def test_a_store_that_stays_silent_is_given_up(s3: Bucket, small: Path, scratch: Path) -> None:
    uri = s3.put("small.mp4", small.read_bytes())
    s3.fail("silent", method="GET", seconds=1.5, times=2)
    fetch = FetchConfig(scratch_dir=str(scratch), attempts=2, timeout_s=0.5)
    with ClipReader(FramesConfig(), DecodeConfig(), 96, fetch) as reader:
        assert read_one(reader, uri).reason is Reason.FETCH_FAILED
    assert list(scratch.iterdir()) == []


def test_parts_of_a_big_file_that_fail_are_fetched_again(
    s3: Bucket, big: Path, reader: ClipReader, scratch: Path
) -> None:
    uri = s3.put(f"v/{big.name}", big.read_bytes())
    for kind in ("cut", "short", "lost", "status"):
        s3.fail(kind, method="GET", times=1)
    assert_same(read_one(reader, uri), read_one(reader, big))
    s3.fail("cut", method="GET", times=99)
    assert read_one(reader, uri).reason is Reason.FETCH_FAILED
    assert held(scratch) == []


def test_what_a_store_refuses_has_its_own_reason(
    s3: Bucket, small: Path, reader: ClipReader
) -> None:
    uri = s3.put("small.mp4", small.read_bytes())
    assert read_one(reader, f"{s3.uri}/no.mp4").reason is Reason.MISSING
    assert read_one(reader, "s3://there-is-no-such-bucket/a.mp4").reason is Reason.MISSING
    assert read_one(reader, s3.put("empty.mp4", b"")).reason is Reason.EMPTY
    s3.fail("status", method="GET", status=403, times=99)
    clip = read_one(reader, uri)
    assert clip.reason is Reason.UNREADABLE
    assert "no permission" in clip.message


def test_an_object_that_is_itself_cut_short_is_a_truncated_video(
    s3: Bucket, small: Path, reader: ClipReader, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    clip = read_one(reader, s3.put("cut.mp4", cut.read_bytes()))
    assert clip.reason is Reason.TRUNCATED
    assert_same(clip, read_one(reader, cut))


def test_more_than_may_be_fetched_is_too_large(s3: Bucket, big: Path, scratch: Path) -> None:
    uri = s3.put(f"v/{big.name}", big.read_bytes())
    fetch = FetchConfig(scratch_dir=str(scratch), max_bytes=1 << 23)
    with ClipReader(FramesConfig(), DecodeConfig(), 96, fetch) as reader:
        clip = read_one(reader, uri)
    assert clip.reason is Reason.TOO_LARGE
    assert f"of its {big.stat().st_size} bytes are needed; at most {1 << 23}" in clip.message
    assert sum(request.bytes_sent for request in s3.requests) < 1 << 23


def test_an_object_that_changes_while_it_is_fetched_is_not_mixed(
    s3: Bucket, big: Path, scratch: Path
) -> None:
    uri = s3.put("v.mp4", big.read_bytes())
    fetcher = Fetcher(FetchConfig(scratch_dir=str(scratch)))
    file = fetcher.open(uri)
    file.fetch([(0, 1000)])
    s3.put("v.mp4", big.read_bytes()[::-1])
    with pytest.raises(MediaError, match="fetch_failed: it changed while it was read"):
        file.fetch([(10_000_000, 10_001_000)])
    file.close()
    fetcher.close()


def test_ranges_are_fetched_once_and_near_ones_together(s3: Bucket, scratch: Path) -> None:
    data = np.random.default_rng(1).bytes(20_000_000)
    uri = s3.put("data", data)
    fetcher = Fetcher(FetchConfig(scratch_dir=str(scratch)))
    file = fetcher.open(uri)
    file.fetch([(100, 200), (1000, 2000), (5_000_000, 5_000_010)])
    file.fetch([(150, 1500), (19_999_999, 30_000_000)])
    asked = sorted(request.range for request in s3.requests if request.method == "GET")
    assert asked == ["bytes=100-1999", "bytes=19999999-19999999", "bytes=5000000-5000009"]
    assert file.bytes_fetched == 1900 + 10 + 1
    assert not file.is_whole
    assert Path(file.path).stat().st_blocks * 512 < 1_000_000  # holes take no room
    file.fetch_all()
    assert file.is_whole
    assert Path(file.path).read_bytes() == data
    assert sum(request.bytes_sent for request in s3.requests) == len(data)
    file.close()
    fetcher.close()
    assert list(scratch.iterdir()) == []


KILLED = """
import os, signal, sys
from vxp_data.settings.prune import FetchConfig
from vxp_data.pipeline.media.fetch import Fetcher
file = Fetcher(FetchConfig(scratch_dir=sys.argv[1])).open(sys.argv[2])
file.fetch_all()
print(file.path, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_worker_left_is_removed_and_a_living_ones_is_not(
    s3: Bucket, small: Path, scratch: Path
) -> None:
    uri = s3.put("small.mp4", small.read_bytes())
    command = [sys.executable, "-c", KILLED, str(scratch), uri]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as worker:
        assert worker.stdout is not None
        left = Path(worker.stdout.readline().strip())
        for expected in (True, False):
            fetcher = Fetcher(FetchConfig(scratch_dir=str(scratch)))
            fetcher.open(uri).close()
            assert left.exists() is expected
            fetcher.close()
            worker.kill()
            worker.wait()
    assert list(scratch.iterdir()) == []


def test_a_scratch_folder_that_cannot_be_used_is_the_user_s_to_mend(
    s3: Bucket, small: Path, tmp_path: Path
) -> None:
    uri = s3.put("small.mp4", small.read_bytes())
    (tmp_path / "file").write_text("")
    fetch = FetchConfig(scratch_dir=str(tmp_path / "file"))
    with (
        ClipReader(FramesConfig(), DecodeConfig(), 96, fetch) as reader,
        pytest.raises(UserError, match=r"the scratch folder .*--set fetch.scratch_dir=DIR"),
    ):
        read_one(reader, uri)


def test_etags_tell_a_changed_object_listed_or_asked_for(s3: Bucket, small: Path) -> None:
    many = [s3.put(f"many/{i}", b"x" * i) for i in range(1, 26)]
    few = [s3.put(f"few/{i}", b"x" * i) for i in range(1, 3)]
    wanted = [*many, *few, f"{s3.uri}/many/no", f"{s3.uri}/few/no", str(small)]
    before = file_versions(wanted)
    assert [method.method for method in s3.requests].count("GET") <= 3
    assert all(before[uri].startswith(f"{i}-") for i, uri in enumerate(many, start=1))
    assert before[f"{s3.uri}/many/no"] == before[f"{s3.uri}/few/no"] == ""
    assert before[many[0]] == file_versions(many[:1])[many[0]]
    s3.put("many/1", b"y")
    s3.put("few/2", b"yy")
    after = file_versions(wanted)
    assert {uri for uri in wanted if before[uri] != after[uri]} == {many[0], few[1]}


def box(kind: bytes, num_bytes: int) -> bytes:
    return struct.pack(">I4s", num_bytes, kind) + bytes(num_bytes - 8)


@pytest.mark.parametrize(
    ("data", "ranges"),
    [
        (box(b"ftyp", 20) + box(b"moov", 100) + box(b"mdat", 900),
         [(0, 20), (20, 120), (120, 136)]),
        (box(b"mdat", 900) + box(b"moov", 100), [(0, 16), (900, 1000)]),
        (box(b"ftyp", 20) + struct.pack(">I4sQ", 1, b"mdat", 500) + bytes(484)
         + box(b"moov", 50),
         [(0, 20), (20, 36), (520, 570)]),
        (box(b"ftyp", 20) + box(b"moov", 100) + struct.pack(">I4s", 0, b"mdat") + bytes(50),
         [(0, 20), (20, 120), (120, 136)]),
        (box(b"ftyp", 20) + box(b"moov", 100) + box(b"moof", 30) + box(b"mdat", 90), None),
        (box(b"ftyp", 20) + box(b"moov", 100) + box(b"mdat", 900)[:-1], None),
        (box(b"ftyp", 20) + box(b"mdat", 900), None),
        (box(b"ftyp", 20) + box(b"moov", 100) + box(b"mdat", 50) + b"\0\0\0\4junk", None),
        (b"\x1a\x45\xdf\xa3" + bytes(100), None),
        (b"", None),
        (box(b"free", 8) * 100 + box(b"moov", 100) + box(b"mdat", 50), None),
    ],
    ids=["header first", "header last", "64-bit size", "to the end", "fragmented", "cut short",
         "no header", "odd size", "matroska", "empty", "endless"],
)  # fmt: skip
def test_the_header_of_an_mp4_is_found(data: bytes, ranges: list[tuple[int, int]] | None) -> None:
    assert header_ranges(lambda start, stop: data[start:stop], len(data)) == ranges


@pytest.fixture
def all_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read every file in parts, however small, without fetching what lies near."""
    monkeypatch.setattr(media_reader, "FULL_BYTES", 0)
    monkeypatch.setattr(media_reader, "sampled_ranges", lambda _: [(0, 1 << 16)])
    monkeypatch.setattr(fetch_module, "GAP_BYTES", 0)


@pytest.mark.usefixtures("all_in_parts")
@pytest.mark.parametrize(
    "pattern",
    ["hard/torchcodec__*.mp4", pytest.param("[hr]*/*.m*", marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_the_corpus_read_in_parts_is_the_corpus(
    s3: Bucket, corpus: Path, reader: ClipReader, pattern: str
) -> None:
    """Only the content's digest cannot be told from parts of so small a file."""
    fetched = total = 0
    for path in sorted(corpus.glob(pattern)):
        if path.stat().st_size > 11_000_000:
            continue
        remote = read_one(reader, s3.put(f"v/{path.name}", path.read_bytes()))
        local = read_one(reader, path)
        media = replace(remote.media, media_id=local.media.media_id)
        assert remote.reason == local.reason, path.name
        assert_same(replace(remote, media=media, message=local.message), local)
        fetched, total = fetched + remote.bytes_fetched, total + path.stat().st_size
    assert 0 < fetched <= total
