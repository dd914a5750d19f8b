"""Big MP4 files on a disk, probed by their index: what the whole file gives, for fewer bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.big_videos import WHOLE, assert_same, ffmpeg, make_big, noise, read_one
from support.children import bytes_read, started_by
from vxp_data.extras import is_installed
from vxp_data.pipeline.media import reader as media_reader
from vxp_data.pipeline.media.clips import ClipFrames, ClipReader, MediaItem
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FramesConfig
from vxp_data.storage.digest import CHUNK_BYTES, FULL_BYTES, content_digest

HEADER_BYTES = 1 << 20
"""More than the header of these files, and what FFmpeg reads to open one."""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_big(tmp_path_factory.mktemp("big") / "h264-header-first.mp4")


class Ways:
    """One reader, to read by the index or by a pass over the whole file."""

    def __init__(self, reader: ClipReader, patch: pytest.MonkeyPatch) -> None:
        self.reader = reader
        self._child = started_by(lambda: read_one(reader, "/no/such/file"))
        self._patch = patch

    def read(self, path: Path, clips_s: tuple[tuple[float, float], ...]) -> list[ClipFrames]:
        item = MediaItem(uri=str(path), is_image=False, clips_s=clips_s, file_version="")
        return list(self.reader.read(item))

    def both(self, path: Path, clips_s=WHOLE) -> tuple[list[ClipFrames], int, int]:
        """Read both ways and compare; return the clips, and how many bytes each way took."""
        begun = bytes_read(self._child)
        by_index = self.read(path, clips_s)
        between = bytes_read(self._child)
        with self._patch.context() as patch:
            patch.setattr(media_reader, "FULL_BYTES", 1 << 62)
            whole = self.read(path, clips_s)
        for one, other in zip(by_index, whole, strict=True):
            assert_same(one, other)
        return by_index, between - begun, bytes_read(self._child) - between


@pytest.fixture(params=["exact"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    with ClipReader(FramesConfig(seek=request.param), DecodeConfig(), 96) as reader:
        yield Ways(reader, monkeypatch)


both_seeks = pytest.mark.parametrize("ways", ["exact", "keyframe"], indirect=True)


@pytest.mark.parametrize("kind", ["h264-header-first", "h264-header-last", "mpeg4"])
def test_a_big_file_is_read_where_it_must_be_and_gives_the_same(
    kind: str, ways: Ways, tmp_path: Path
) -> None:
    big = make_big(tmp_path / f"{kind}.mp4")
    (clip,), by_index, whole = ways.both(big)
    assert clip.frames_exact == len(clip.frame_index_F) == 20
    assert clip.media.media_id == content_digest(big)
    # Both read what they decode; only one reads the rest too.
    assert whole - by_index > big.stat().st_size - 3 * CHUNK_BYTES - HEADER_BYTES


@both_seeks
def test_several_clips_of_a_big_file_are_the_same(ways: Ways, big: Path) -> None:
    clips, by_index, whole = ways.both(big, ((0.0, 1.0), (2.0, 5.0), (7.5, 99.0), (50.0, 51.0)))
    assert [clip.reason for clip in clips] == [None, None, None, Reason.OUTSIDE_CLIP]
    assert by_index < whole


def cut_short(big: Path, out: Path) -> Path:
    out.write_bytes(big.read_bytes()[: big.stat().st_size * 95 // 100])
    return out


def header_lost(big: Path, out: Path) -> Path:
    last = ffmpeg(out.with_name("last.mp4"), "-i", str(big), "-c", "copy")
    data = last.read_bytes()
    out.write_bytes(data[: data.rindex(b"moov") - 4])
    return out


def fragmented(big: Path, out: Path) -> Path:
    return ffmpeg(out, "-i", str(big), "-c", "copy", "-movflags", "frag_keyframe+empty_moov")


def samples_beyond_the_end(big: Path, out: Path) -> Path:
    """The box of samples claims to end where the file does, and the index names more of them."""
    data = bytearray(big.read_bytes())
    mdat = data.index(b"mdat") - 4
    del data[-4_000_000:]
    data[mdat : mdat + 4] = struct.pack(">I", len(data) - mdat)
    out.write_bytes(data)
    return out


def every_frame_a_key(big: Path, out: Path) -> Path:
    """Without its list of key frames a file claims that every frame is one."""
    out.write_bytes(big.read_bytes().replace(b"stss", b"free", 1))
    return out


def same_stamps(big: Path, out: Path) -> Path:
    """Frames take no time: the stamps of all are one."""
    data = bytearray(big.read_bytes())
    at = data.index(b"stts") + 8
    (entries,) = struct.unpack(">I", data[at : at + 4])
    for entry in range(entries):
        delta = at + 8 + 8 * entry
        data[delta : delta + 4] = bytes(4)
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(
    "damage",
    [
        *(cut_short, header_lost, fragmented, samples_beyond_the_end),
        *(every_frame_a_key, same_stamps),
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_big_file_without_a_sound_index_is_read_whole(
    damage: Callable[[Path, Path], Path], ways: Ways, big: Path, tmp_path: Path
) -> None:
    path = damage(big, tmp_path / "damaged.mp4")
    assert path.stat().st_size > FULL_BYTES
    _, by_index, whole = ways.both(path)
    assert by_index >= whole


def with_keys(data: bytes, wanted: Callable[[int], int | None]) -> bytes:
    """List other key frames: what is wanted for each, counted from 0; None to leave it out."""
    at = data.index(b"stss") + 8
    (count,) = struct.unpack(">I", data[at : at + 4])
    stop = at + 4 + 4 * count
    keys = [wanted(number - 1) for number in struct.unpack(f">{count}I", data[at + 4 : stop])]
    kept = [key + 1 for key in keys if key is not None]
    listed = struct.pack(f">{1 + len(kept)}I", len(kept), *kept)
    return data[:at] + listed.ljust(stop - at, b"\0") + data[stop:]


LIES: dict[str, Callable[[int], int | None]] = {
    "one earlier": lambda key: key - 1 if 36 <= key < 64 else key,
    "one later": lambda key: key + 1 if 36 <= key < 64 else key,
    "not listed": lambda key: None if 36 <= key < 64 else key,
}
"""A quarter of the way, between the head and the middle, which are read to name the file."""


@pytest.mark.parametrize(
    ("codec", "lie", "ways"),
    [
        *(("h264", lie, "exact") for lie in LIES),
        *(("h264", lie, "keyframe") for lie in ("one earlier", "one later")),
        *(("mpeg4", lie, "exact") for lie in LIES),
    ],
    indirect=["ways"],
)
def test_an_index_that_is_wrong_about_planned_frames_is_noticed_when_they_are_decoded(
    codec: str, lie: str, ways: Ways, big: Path, tmp_path: Path
) -> None:
    true = big if codec == "h264" else make_big(tmp_path / "mpeg4.mp4")
    liar = tmp_path / "liar.mp4"
    liar.write_bytes(with_keys(true.read_bytes(), LIES[lie]))
    (clip,), by_index, whole = ways.both(liar, ((1.6, 2.4),))
    # It is tried, then the whole file is read, whose images say what they are. A key frame that the
    # index does not list is not missed in MPEG-4: its frames are decoded from an earlier one.
    assert (by_index > whole) == (codec == "h264" or lie != "not listed")
    assert clip.frames_exact == len(clip.frame_index_F)


def test_a_file_with_an_edit_list_is_read_by_its_index(ways: Ways, tmp_path: Path) -> None:
    """Frames before its beginning are stored, needed and not shown."""
    h264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "4", "-bf", "2", "-g", "20")
    source = ffmpeg(
        *(tmp_path / "source.mp4", *noise("640x360", 25, 9), *h264, "-pix_fmt", "yuv420p"),
        *("-c:a", "aac"),
    )
    path = ffmpeg(tmp_path / "cut.mp4", "-ss", "0.5", "-i", str(source), "-c", "copy")
    assert path.stat().st_size > FULL_BYTES
    (clip,), by_index, whole = ways.both(path)
    assert clip.media.has_edit_list
    assert by_index < whole


@pytest.mark.skipif(not is_installed("decord"), reason="decord is not installed")
def test_other_decoders_get_a_whole_pass(big: Path) -> None:
    """They do not look whether the index is right."""
    with ClipReader(FramesConfig(), DecodeConfig(decoder="decord", fallback=None), 96) as reader:
        child = started_by(lambda: read_one(reader, "/no/such/file"))
        begun = bytes_read(child)
        read_one(reader, big)
        assert bytes_read(child) - begun > big.stat().st_size
