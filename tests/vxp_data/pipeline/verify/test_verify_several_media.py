"""`verify` of shards of several media: each payload opened, each plan drawn again."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.several_media import MEDIA, SEVERAL
from vxp_data.pipeline.shard.index import read_index
from vxp_data.pipeline.verify.shards import verify_shards
from vxp_data.shard_format import ClipRecord, MixedRecord
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import TarWriter, read_bytes, read_members
from vxp_data.storage.folder import open_folder

pytestmark = pytest.mark.usefixtures("engine")

Change = Callable[[MixedRecord], MixedRecord]


def problems(out: Path) -> list[str]:
    return verify_shards(open_folder(out)).problems


@pytest.fixture
def shards(several_shards: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(several_shards, tmp_path / "shards"))


def of_video_and_images(out: Path) -> tuple[Path, ShardClip]:
    """The shard and the place of the row with a video and two images."""
    for path in out.glob("mixed-*.tar"):
        with path.open("rb") as file:
            for clip in read_clips(file):
                if [own.kind for own in clip.record.media_clips] == ["video", "image", "image"]:
                    return path, clip
    raise AssertionError("no such row")


def trust(out: Path, path: Path) -> None:
    """Put a damaged shard's own sum into the index, as one who covers his tracks would."""
    index, data = read_index(open_folder(out)), path.read_bytes()
    entries = [
        dataclasses.replace(entry, sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))
        if entry.name == path.name
        else entry
        for entry in index.shards
    ]
    (out / "index.json").write_bytes(dataclasses.replace(index, shards=entries).to_json())


def rewritten(path: Path, changed: dict[str, bytes | None]) -> None:
    """Write a shard's members anew, some changed or, for None, left out."""
    file = io.BytesIO(path.read_bytes())
    members = [(m.name, read_bytes(file, m)) for m in list(read_members(file))]
    with path.open("wb") as out, TarWriter(out) as tar:
        for name, old in members:
            data = changed.get(name, old)
            if data is not None:
                tar.add(name, data)


def test_whole_shards_have_no_problems_and_are_counted(several_shards: Path) -> None:
    found = verify_shards(open_folder(several_shards))
    assert found.problems == []
    assert found.num_samples == len(MEDIA)
    # Three rows are about one tuple; all others are about clips of their own.
    assert found.num_clips == len(MEDIA) - 2
    assert len(SEVERAL) > 3


@pytest.mark.parametrize("several_shards", ["video", "frames"], indirect=True)
@pytest.mark.parametrize("medium", [0, 1, 2])
def test_a_flipped_byte_of_any_payload_is_found(shards: Path, medium: int) -> None:
    path, clip = of_video_and_images(shards)
    data = bytearray(path.read_bytes())
    payload = clip.payloads[medium]
    data[payload.offset + payload.num_bytes // 2] ^= 1
    path.write_bytes(data)
    trust(shards, path)
    assert problems(shards) == [
        f"{path.name}: key {clip.record.key!r}: the payload's SHA-256 is not its record's"
    ]


@pytest.mark.parametrize("several_shards", ["video", "frames"], indirect=True)
def test_a_missing_and_a_changed_payload_are_found(shards: Path) -> None:
    path, clip = of_video_and_images(shards)
    whole = path.read_bytes()
    rewritten(path, {clip.payloads[1].name: None})
    trust(shards, path)
    assert "the payload has 0 bytes, its record says" in problems(shards)[0]
    path.write_bytes(whole)
    first, second = (whole[p.offset : p.offset + p.num_bytes] for p in clip.payloads[1:])
    rewritten(path, {clip.payloads[1].name: second, clip.payloads[2].name: first})
    trust(shards, path)
    found = problems(shards)[0]
    assert "bytes, its record says" in found or "SHA-256 is not its record's" in found


def clip_changed(record: MixedRecord, **changes: object) -> MixedRecord:
    first, *others = record.clips
    changed: ClipRecord = dataclasses.replace(first, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(record, clips=[changed, *others])


def with_fps(record: MixedRecord) -> MixedRecord:
    (row,) = record.rows
    (first, *epochs), *others = row.plans
    plans = [[dataclasses.replace(first, fps=9.0), *epochs], *others]
    return dataclasses.replace(record, rows=[dataclasses.replace(row, plans=plans)])


def turned(record: MixedRecord) -> MixedRecord:
    (row,) = record.rows
    said = row.conversation.replace('"video"', '"image"', 1)
    return dataclasses.replace(record, rows=[dataclasses.replace(row, conversation=said)])


@pytest.mark.parametrize("several_shards", ["none"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: dataclasses.replace(r, rows=[]), "it has no rows"),
        (lambda r: dataclasses.replace(r, clips=r.clips[:1] + r.clips[:0:-1]), "its key is not"),
        (lambda r: clip_changed(r, sampling=r.sampling), "clip 0: its sampling is not"),
        (lambda r: clip_changed(r, clip_start_s=0.25), "clip 0: its key is not"),
        (lambda r: clip_changed(r, format_version=1), "clip 0: its format is not"),
        (lambda r: dataclasses.replace(r, sampling="{}"), "its sampling is not"),
        (
            lambda r: dataclasses.replace(
                r, provenance=dataclasses.replace(r.provenance, run="another")
            ),
            "its provenance is not",
        ),
        (with_fps, "the plan is not the one that its rule gives"),
        (turned, "its conversation shows ['image', 'image', 'image']"),
    ],
)
def test_a_record_that_contradicts_itself_is_found(
    shards: Path, change: Change, message: str
) -> None:
    path, clip = of_video_and_images(shards)
    assert isinstance(clip.record, MixedRecord)
    rewritten(path, {clip.json.name: change(clip.record).to_json()})
    trust(shards, path)
    assert message in problems(shards)[0]
