"""Tars and what lies in them: bytes that do not change, places that are right, faults found."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import shard_fixtures as fixtures
from vxp_data.shard_format import ClipRecord, clip_key, frame_name
from vxp_data.shard_index import ShardIndex
from vxp_data.shards.frames_payload import pack_frames, unpack_frames
from vxp_data.shards.hashing import (
    HashingReader,
    HashingThread,
    HashingWriter,
    ThreadedSha256,
)
from vxp_data.shards.shard_file import read_clips
from vxp_data.shards.tar_file import Member, TarWriter, read_bytes, read_members

MEMBERS = {"a.json": b"{}", "a.video": bytes(range(256)) * 5, "b.json": b"", "c.json": b"x" * 512}


def write_tar(members: dict[str, bytes]) -> tuple[bytes, list[Member]]:
    file = io.BytesIO()
    with TarWriter(file) as tar:
        written = [tar.add(name, data) for name, data in members.items()]
    return file.getvalue(), written


def some_frames(num_frames: int = 3) -> list[tuple[int, np.ndarray]]:
    """Smooth images, which images formats keep well."""
    y_H, x_W = np.arange(48)[:, None], np.arange(64)[None, :]
    return [
        (7 * i, np.stack([(y_H + x_W + 40 * i) % 200, y_H * 4 + 0 * x_W, x_W * 3 + 0 * y_H], -1))
        for i in range(num_frames)
    ]


def packed(image_format: str = "jpeg", quality: int = 90) -> bytes:
    frames = [(i, frame_HWC.astype(np.uint8)) for i, frame_HWC in some_frames()]
    return pack_frames(iter(frames), image_format=image_format, quality=quality)


def first_image() -> bytes:
    file = io.BytesIO(packed())
    return read_bytes(file, next(read_members(file)))


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60)


@settings(deadline=None)
@given(members=st.dictionaries(names, st.binary(max_size=2000), max_size=6))
def test_pythons_tarfile_reads_what_we_write_at_the_places_we_say(members):
    data, written = write_tar(members)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
        assert {info.name: tar.extractfile(info).read() for info in infos} == members
        assert [(info.name, info.offset_data, info.size) for info in infos] == [
            (member.name, member.offset, member.num_bytes) for member in written
        ]
    assert list(read_members(io.BytesIO(data))) == written
    assert {m.name: data[m.offset : m.offset + m.num_bytes] for m in written} == members


def test_the_tar_program_reads_what_we_write(tmp_path):
    (tmp_path / "x.tar").write_bytes(write_tar(MEMBERS)[0])
    if shutil.which("tar") is None:
        pytest.skip("no tar program")
    done = subprocess.run(
        ["tar", "-xvf", "x.tar", "--warning=all"], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == list(MEMBERS)
    assert done.stderr == b""
    assert {name: (tmp_path / name).read_bytes() for name in MEMBERS} == MEMBERS


def test_a_tar_tells_nothing_of_machine_user_or_day():
    data, _ = write_tar(MEMBERS)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            owner = (info.uid, info.gid, info.uname, info.gname)
            assert (owner, info.mtime, info.mode) == ((0, 0, "", ""), 0, 0o644)
    assert write_tar(MEMBERS)[0] == data


def test_a_file_is_copied_as_far_as_asked_and_a_short_one_is_an_error():
    file = io.BytesIO()
    with TarWriter(file) as tar:
        member = tar.add("a.video", io.BytesIO(b"0123456789"), 4)
    assert read_bytes(file, member) == b"0123"
    with pytest.raises(OSError, match="unexpected end of data"), TarWriter(io.BytesIO()) as tar:
        tar.add("a.video", io.BytesIO(b"0123"), 10)


def test_a_tar_whose_writing_failed_has_no_end():
    file = io.BytesIO()
    with pytest.raises(OSError, match="unexpected end"), TarWriter(file) as tar:
        tar.add("a.video", io.BytesIO(b"0123"), 10)
    with pytest.raises(ValueError, match=r"cut short|not a whole tar"):
        list(read_members(file))


@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1024, 1536, 2000, 3583, 4095])
def test_a_tar_cut_short_anywhere_is_refused(cut):
    data, written = write_tar(MEMBERS)
    assert cut < written[-1].offset + 512 + 1024
    with pytest.raises(ValueError, match=r"cut short|not a whole tar"):
        list(read_members(io.BytesIO(data[:cut])))


def test_a_broken_header_half_way_is_not_taken_for_the_end():
    data, written = write_tar(MEMBERS)
    at = written[2].offset - 512
    broken = bytearray(data)
    broken[at] ^= 1
    with pytest.raises(ValueError, match=f"the members end at byte {at}: no header"):
        list(read_members(io.BytesIO(bytes(broken))))


def test_links_and_folders_are_refused():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("passwd")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ValueError, match="'passwd' is not a plain file"):
        list(read_members(file))


def test_what_is_written_and_read_is_hashed_on_the_way():
    file = io.BytesIO()
    writer = HashingWriter(file)
    writer.write(b"ab")
    writer.write(b"c")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (writer.sha256, writer.tell(), file.getvalue()) == (abc, 3, b"abc")
    reader = HashingReader(io.BytesIO(b"abcd"))
    assert (reader.read(3), reader.sha256) == (b"abc", abc)
    with pytest.raises(EOFError, match="1 of 3 bytes"):
        reader.read(3)


def test_what_is_hashed_in_a_thread_has_the_digest_that_it_has_elsewhere():
    rng = np.random.default_rng(3)
    pieces = [
        rng.bytes(int(size)) for size in rng.integers(0, 3, 400) * rng.integers(1, 90_000, 400)
    ]
    with HashingThread() as thread:
        first, second, empty = (thread.sha256() for _ in range(3))
        for piece in pieces:
            first.update(piece)
        half = first.future()
        for piece in reversed(pieces):
            first.update(piece)
            second.update(piece)
        assert half.result() == hashlib.sha256(b"".join(pieces)).hexdigest()
        whole = b"".join([*pieces, *reversed(pieces)])
        assert first.hexdigest() == hashlib.sha256(whole).hexdigest()
        assert second.hexdigest() == hashlib.sha256(b"".join(reversed(pieces))).hexdigest()
        assert empty.hexdigest() == hashlib.sha256().hexdigest()


def test_whoever_hands_over_waits_for_a_thread_that_does_not_follow():
    goes_on, done = threading.Event(), threading.Event()

    def hand_over(digest: ThreadedSha256) -> None:
        for _ in range(100):
            digest.update(bytes(1 << 18))
        done.set()

    with HashingThread() as thread:
        thread.submit(goes_on.wait)
        other = threading.Thread(target=hand_over, args=[thread.sha256()])
        other.start()
        was_done = done.wait(0.2)
        goes_on.set()
        other.join()
    assert not was_done
    assert done.is_set()


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_frames_come_back_as_they_were_within_the_formats_error(image_format):
    data = packed(image_format)
    assert packed(image_format) == data
    again = unpack_frames(data)
    assert list(again) == [0, 7, 14]
    for index, frame_HWC in some_frames():
        assert again[index].shape == (48, 64, 3)
        away = np.abs(again[index].astype(int) - frame_HWC)
        assert away.mean() < 2
        assert np.percentile(away, 99) < 16
    member = next(read_members(io.BytesIO(data)))
    assert member.name == frame_name(0, image_format) == f"00000000.{image_format}"


def test_quality_is_heard():
    assert len(packed(quality=30)) < len(packed(quality=95))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("first.jpeg", b"x", "not named by a frame's index"),
        ("00000001.jpeg", b"no image", "is no image"),
        ("00000001.jpeg", first_image()[:-200], "is no image"),
    ],
)
def test_a_frames_payload_that_is_none_is_refused(name, data, message):
    with pytest.raises(ValueError, match=message):
        unpack_frames(write_tar({name: data})[0])


def test_two_images_of_one_frame_are_refused():
    data, _ = write_tar({"00000001.jpeg": first_image(), "1.jpeg": first_image()})
    with pytest.raises(ValueError, match="or twice"):
        unpack_frames(data)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shard of two text clips and one with a payload, written without our code."""
    folder = tmp_path_factory.mktemp("shard")
    clips = [fixtures.text_clip("d/1"), fixtures.text_clip("d/2")]
    clips.append(fixtures.media_clip(fixtures.make_image(folder / "x.png"), ["d/3"], is_image=True))
    written = fixtures.write_shards(folder / "out", [clips])
    return (written.folder / written.index.shards[0].name).read_bytes()


def changed(shard: bytes, change: dict[str, bytes | None], again: tuple[str, ...] = ()) -> bytes:
    """Write the shard with members replaced, left out (None) or added, some once more."""
    file = io.BytesIO(shard)
    members = [(m.name, read_bytes(file, m)) for m in list(read_members(file))]
    members += [(name, data) for name, data in members if name in again]
    members += [(name, b"") for name in change if name not in dict(members)]
    out = io.BytesIO()
    with TarWriter(out) as tar:
        for name, data in members:
            data = change.get(name, data)
            if data is not None:
                tar.add(name, data)
    return out.getvalue()


def test_a_shard_gives_its_clips_and_the_places_of_their_members(shard):
    clips = list(read_clips(io.BytesIO(shard)))
    assert [row.sample_id for clip in clips for row in clip.record.rows] == ["d/1", "d/2", "d/3"]
    assert [not clip.payloads for clip in clips] == [True, True, False]
    (row,) = clips[2].sample_rows()
    at = row["payload_offset"]
    assert shard[at : at + row["payload_bytes"]].startswith(b"\x89PNG")
    at = row["json_offset"]
    assert ClipRecord.from_json(shard[at : at + row["json_bytes"]]) == clips[2].record
    assert (row["sample_id"], row["place"], row["num_frames"]) == ("d/3", 0, 1)


def test_faults_of_members_are_found(shard):
    one, _, image = (clip.record.key for clip in read_clips(io.BytesIO(shard)))
    for change, again, message in (
        ({f"{one}.json": None, f"{one}.video": b""}, (), "has no member 'json'"),
        ({f"{image}.image": None}, (), "the payload has 0 bytes, its record says"),
        ({f"{image}.image": b"short"}, (), "the payload has 5 bytes, its record says"),
        ({f"{image}.txt": b""}, (), r"its record does not name: \['txt'\]"),
        ({}, (f"{one}.json",), "comes twice"),
        ({}, (f"{image}.json",), "has two members of one name"),
        ({f"{one}.json": b"{}"}, (), "format_version is None"),
        ({f"{one}.json": b"\xff"}, (), f"{one}.json: "),
    ):
        with pytest.raises(ValueError, match=message):
            list(read_clips(io.BytesIO(changed(shard, change, again))))
    record = next(read_clips(io.BytesIO(shard))).record
    other = dataclasses.replace(record, key="0" * 24).to_json()
    with pytest.raises(ValueError, match=f"{one}.json holds the record of key '0000"):
        list(read_clips(io.BytesIO(changed(shard, {f"{one}.json": other}))))


def test_a_record_comes_back_from_its_json_and_nothing_else_does(shard):
    record = list(read_clips(io.BytesIO(shard)))[2].record
    data = record.to_json()
    assert ClipRecord.from_json(data) == record
    values = json.loads(data)
    for path, value, message in (
        (("rows", 0, "score"), 1, r"rows\[0\].score is int 1, not float"),
        (("rows", 0, "task"), None, r"rows\[0\].task is NoneType None, not str"),
        (("media", "num_frames"), True, "media.num_frames is bool True, not int"),
        (("payload",), [], "payload is list, not an object"),
        (("format_version",), 99, "format_version is 99; this version reads 1 and 2"),
        (("more",), 1, r"missing \[\], unknown \['more'\]"),
    ):
        odd = json.loads(data)
        at = odd
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        with pytest.raises(ValueError, match=message):
            ClipRecord.from_json(json.dumps(odd).encode())
    del values["rows"][0]["plans"]
    with pytest.raises(ValueError, match=r"rows\[0\]: missing \['plans'\]"):
        ClipRecord.from_json(json.dumps(values).encode())


def test_a_record_never_holds_what_json_has_not(shard):
    record = list(read_clips(io.BytesIO(shard)))[2].record
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(record, clip_end_s=math.inf).to_json()


def test_an_index_of_another_version_or_shape_is_refused():
    with pytest.raises(ValueError, match="format_version is 3; this version reads 1 and 2"):
        ShardIndex.from_json(b'{"format_version": 3}')
    with pytest.raises(ValueError, match="format_version is None"):
        ShardIndex.from_json(b"[]")
    with pytest.raises(ValueError, match="missing"):
        ShardIndex.from_json(b'{"format_version": 1}')


def test_keys_name_content_and_part():
    def key(kind="video", media_id="sha256:1", start_s=0.0, end_s=math.inf, sample_id="a"):
        return clip_key(
            kind, media_id=media_id, clip_start_s=start_s, clip_end_s=end_s, sample_id=sample_id
        )

    assert key() == key(sample_id="b")
    distinct = [
        key(), key("image"), key(media_id="sha256:2"), key(start_s=1.0), key(end_s=2.0),
        key("text", ""), key("text", "", sample_id="b"),
    ]  # fmt: skip
    assert len(set(distinct)) == len(distinct)
    assert all("." not in each and len(each) == 24 for each in distinct)


def test_the_fixture_is_a_whole_shard(shard, tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(shard)
    assert tarfile.is_tarfile(tmp_path / "x.tar")
