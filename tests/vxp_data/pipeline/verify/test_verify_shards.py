"""`verify` finds what is wrong with a folder of shards, and names it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.runs import run_shard, shard_bytes
from vxp_data.cli import app
from vxp_data.errors import UserError
from vxp_data.pipeline.shard.index import read_index
from vxp_data.pipeline.verify.shards import verify_shards
from vxp_data.shard_format import ClipRecord
from vxp_data.shard_index import ShardIndex
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import TarWriter, read_bytes, read_members
from vxp_data.storage.folder import open_folder

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module", params=["video", "frames"])
def whole(
    request: pytest.FixtureRequest, mixed_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("whole") / request.param
    settings = {"shard__frame_px": 32, "shard__world_size": 2}
    run_shard(mixed_run, out, shard__payload=request.param, **settings)
    return out


@pytest.fixture
def shards(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def problems(out: Path) -> list[str]:
    return verify_shards(open_folder(out)).problems


def first_video(out: Path) -> Path:
    return next(path for path in sorted(out.iterdir()) if path.name.startswith("video-00000"))


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], *more: str) -> None:
    """Write a shard's members anew: as `change` gives them, without those it gives None for."""
    file = io.BytesIO(path.read_bytes())
    members = [(m.name, read_bytes(file, m)) for m in list(read_members(file))]
    members += [member for member in members if member[0] in more]
    with path.open("wb") as out, TarWriter(out) as tar:
        for name, data in members:
            if (now := change(name, data)) is not None:
                tar.add(name, now)


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trust(out: Path, path: Path) -> None:
    """Put a damaged shard's own sum into the index, as one who covers his tracks would."""
    index = read_index(open_folder(out))
    entries = [
        dataclasses.replace(entry, sha256=sum_of(path), num_bytes=path.stat().st_size)
        if entry.name == path.name
        else entry
        for entry in index.shards
    ]
    (out / "index.json").write_bytes(dataclasses.replace(index, shards=entries).to_json())


def first_clip(path: Path) -> ShardClip:
    with path.open("rb") as file:
        return next(read_clips(file))


def test_whole_shards_have_no_problems_and_are_counted(mixed_shards: Path) -> None:
    found = verify_shards(open_folder(mixed_shards))
    assert found.problems == []
    assert (found.num_shards, found.num_clips, found.num_samples) == (6, 13, 17)
    tars = [data for name, data in shard_bytes(mixed_shards).items() if name.endswith(".tar")]
    assert found.num_bytes == sum(map(len, tars))


@pytest.mark.parametrize("where", ["json", "payload", "header", "padding"])
def test_a_flipped_byte_is_found_wherever_it_is(shards: Path, where: str) -> None:
    path = first_video(shards)
    clip = first_clip(path)
    assert clip.payloads
    at = {
        "json": clip.json.offset + clip.json.num_bytes // 2,
        "payload": clip.payloads[0].offset + clip.payloads[0].num_bytes // 2,
        "header": clip.json.offset - 500,
        "padding": path.stat().st_size - 1,
    }[where]
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    found = problems(shards)
    assert f"{path.name}: its SHA-256 is not the index's" in found
    assert all(problem.startswith(path.name) for problem in found)
    if where == "payload":
        assert f"{path.name}: key {clip.record.key!r}: the payload's SHA-256 is not its record's" \
            in found  # fmt: skip


def test_a_missing_member_is_found(shards: Path) -> None:
    path = first_video(shards)
    gone = first_clip(path).payloads[0]
    assert gone is not None
    rewritten(path, lambda name, data: None if name == gone.name else data)
    trust(shards, path)
    (found,) = problems(shards)
    assert found.startswith(f"{path.name}: key {gone.name.partition('.')[0]!r}: the payload has 0")


def test_a_missing_clip_is_found(shards: Path) -> None:
    path = first_video(shards)
    key = first_clip(path).record.key
    rewritten(path, lambda name, data: None if name.startswith(key) else data)
    trust(shards, path)
    (found,) = problems(shards)
    assert "clips and" in found
    assert "the index says" in found


def test_a_doubled_key_is_found_within_a_shard_and_across_shards(shards: Path) -> None:
    path = first_video(shards)
    clip = first_clip(path)
    assert clip.payloads
    before = path.read_bytes()
    rewritten(path, lambda _, data: data, clip.json.name, clip.payloads[0].name)
    trust(shards, path)
    assert problems(shards) == [f"{path.name}: key {clip.record.key!r} comes twice"]
    path.write_bytes(before)
    trust(shards, path)
    assert problems(shards) == []
    other = next(p for p in sorted(shards.iterdir()) if p.name.startswith("video-00001"))
    index = read_index(open_folder(shards))
    entries = [
        dataclasses.replace(index.shards[[e.name for e in index.shards].index(path.name)],
                            name=other.name)
        if entry.name == other.name else entry for entry in index.shards
    ]  # fmt: skip
    shutil.copyfile(path, other)
    (shards / "index.json").write_bytes(dataclasses.replace(index, shards=entries).to_json())
    found = problems(shards)
    assert f"{other.name}: key {clip.record.key!r} is there twice, first in {path.name}" in found
    sample_id = clip.record.rows[0].sample_id
    assert f"{other.name}: sample {sample_id!r} is there twice, first in {path.name}" in found


def test_an_extra_and_a_missing_shard_are_found(shards: Path) -> None:
    path = first_video(shards)
    shutil.copyfile(path, shards / "video-00009-0123456789ab.tar")
    path.rename(shards / "mine.tar")
    found = problems(shards)
    assert found[:2] == [
        "mine.tar: a tar that the index does not name",
        "video-00009-0123456789ab.tar: a tar that the index does not name",
    ]
    assert found[2].startswith(f"{path.name}: ")
    assert "No such file" in found[2]


@pytest.mark.parametrize("left", [0, 100, 0.5, -1024, -1])
def test_a_truncated_shard_is_found(shards: Path, left: float) -> None:
    path = first_video(shards)
    size = path.stat().st_size
    num_bytes = int(left * size) if isinstance(left, float) else left % size
    path.write_bytes(path.read_bytes()[:num_bytes])
    trust(shards, path)
    (found,) = problems(shards)
    assert found.startswith(f"{path.name}: ")
    assert "cut short" in found or "not a whole tar" in found


def test_tables_and_indexes_that_were_changed_are_found(shards: Path) -> None:
    (shards / "samples.parquet").write_bytes(b"PAR1")
    (shards / "quarantine.parquet").unlink()
    found = problems(shards)
    assert found[0] == "samples.parquet: its SHA-256 is not the index's"
    assert found[1].startswith("quarantine.parquet: ")
    (shards / "index.json").write_bytes(b'{"format_version": 7}')
    with pytest.raises(UserError, match=r"index.json cannot be read: format_version is 7"):
        problems(shards)
    (shards / "index.json").unlink()
    with pytest.raises(UserError, match=r"holds no finished shards: index.json is missing"):
        problems(shards)


def changed_record(path: Path, change: Callable[[ClipRecord], ClipRecord]) -> str:
    """Change the first clip's record; return its key."""
    clip = first_clip(path)
    data = change(clip.record).to_json()
    rewritten(path, lambda name, old: data if name == clip.json.name else old)
    return clip.record.key


def with_fps(record: ClipRecord, fps: float) -> ClipRecord:
    row = record.rows[0]
    plans = [dataclasses.replace(row.plans[0], fps=fps), *row.plans[1:]]
    return dataclasses.replace(
        record, rows=[dataclasses.replace(row, plans=plans), *record.rows[1:]]
    )


def of_another_run(record: ClipRecord) -> ClipRecord:
    provenance = dataclasses.replace(record.provenance, run="another")
    return dataclasses.replace(record, provenance=provenance)


def with_payload(record: ClipRecord, **changes: Any) -> ClipRecord:
    return dataclasses.replace(record, payload=dataclasses.replace(record.payload, **changes))


def with_media(record: ClipRecord, **changes: Any) -> ClipRecord:
    return dataclasses.replace(record, media=dataclasses.replace(record.media, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: dataclasses.replace(r, rows=[]), "it has no rows"),
        (lambda r: dataclasses.replace(r, clip_start_s=0.25), "its key is not what"),
        (lambda r: dataclasses.replace(r, kind="image"), "its key is not what"),
        (lambda r: dataclasses.replace(r, sampling="{}"), "its sampling is not what"),
        (lambda r: of_another_run(r), "its provenance is not what"),
        (lambda r: with_payload(r, kind="none"), "its payload is not what"),
        (lambda r: with_fps(r, 9.0), "the plan is not the one that its rule gives"),
        (lambda r: with_media(r, timeline="1.0:x"), "not a timeline"),
    ],
)  # fmt: skip
def test_a_record_that_contradicts_itself_is_found(
    shards: Path, change: Callable[[ClipRecord], ClipRecord], message: str
) -> None:
    path = first_video(shards)
    changed_record(path, change)
    trust(shards, path)
    found = problems(shards)
    assert found[0].startswith(f"{path.name}: ")
    assert message in found[0]


def test_a_payload_that_is_not_what_its_record_says_is_found(shards: Path) -> None:
    path = first_video(shards)
    clip = first_clip(path)
    assert clip.payloads
    name = clip.payloads[0].name
    with path.open("rb") as file:
        data = read_bytes(file, clip.payloads[0])
    other = bytes(len(data))
    payload = dataclasses.replace(clip.record.payload, sha256=hashlib.sha256(other).hexdigest())
    record = dataclasses.replace(clip.record, payload=payload).to_json()
    rewritten(path, lambda each, old: {name: other, clip.json.name: record}.get(each, old))
    trust(shards, path)
    (found, *_) = problems(shards)
    assert found.startswith(f"{path.name}: key {clip.record.key!r}: ")
    if clip.record.payload.kind == "video":
        assert "the payload does not open: not_video" in found
    else:
        assert "are planned and not there" in found  # a tar without members


def test_what_a_record_says_of_its_payload_is_compared_with_it(shards: Path) -> None:
    path = first_video(shards)
    before = path.read_bytes()
    if first_clip(path).record.payload.kind == "video":
        wrong: list[tuple[ClipRecord, str]] = [
            (with_media(first_clip(path).record, num_frames=7), "the payload's num_frames is not"),
        ]
    else:
        wrong = [
            (with_payload(first_clip(path).record, num_frames=7), "images; its record says 7"),
            (with_payload(first_clip(path).record, width_px=31), "an image is not of 31 x 32"),
        ]
    for record, message in wrong:
        path.write_bytes(before)
        changed_record(path, lambda _, changed=record: changed)
        trust(shards, path)
        assert message in problems(shards)[0]


def test_a_shard_of_another_kind_than_its_clips_is_found(shards: Path) -> None:
    index = read_index(open_folder(shards))
    entries = [dataclasses.replace(entry, kind="image") for entry in index.shards]
    (shards / "index.json").write_bytes(dataclasses.replace(index, shards=entries).to_json())
    found = problems(shards)
    kinds = ["its kind is not what" in problem for problem in found]
    assert all(kinds)
    assert {problem.partition("-")[0] for problem in found} == {"video", "text"}


def test_the_samples_table_must_say_where_things_are(shards: Path) -> None:
    """Two clips change places: all sums are right, and a loader would read the wrong bytes."""
    path = first_video(shards)
    file = io.BytesIO(path.read_bytes())
    members = [(m.name, read_bytes(file, m)) for m in list(read_members(file))]
    first = members[0][0].partition(".")[0]
    moved = [m for m in members if not m[0].startswith(first)]
    moved += [m for m in members if m[0].startswith(first)]
    with path.open("wb") as out, TarWriter(out) as tar:
        for name, data in moved:
            tar.add(name, data)
    trust(shards, path)
    assert problems(shards) == [f"{path.name}: samples.parquet says otherwise"]


def test_the_command_says_what_is_wrong_and_the_next_one_mends_it(
    mixed_run: Path, shards: Path
) -> None:
    path = first_video(shards)
    before = shard_bytes(shards)
    path.write_bytes(path.read_bytes()[:-2000])
    runner = CliRunner()
    with pytest.raises(UserError, match=r"is not what its index says, 2 problems:\n  video-00000"):
        app(["verify", str(shards)], standalone_mode=False)
    settings = {"shard__frame_px": 32, "shard__world_size": 2}
    payload = ShardIndex.from_json(before["index.json"]).payload
    result = run_shard(mixed_run, shards, shard__payload=payload, **settings)
    assert result.num_found == len(result.index.shards) - 1
    assert shard_bytes(shards) == before
    done = runner.invoke(app, ["verify", str(shards)])
    assert done.exit_code == 0
    assert "6 shards, 13 clips, 17 rows" in done.output
    assert "All is as the index says." in done.output
    assert json.loads(before["index.json"])["payload"] == payload


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda turns: turns[1:], r"its conversation shows \[\], its clip is \['video'\]"),
        (lambda turns: turns[:1] + turns, r"shows \['video', 'video'\], its clip is \['video'\]"),
        (lambda turns: [["Who?", "He."], *turns], r"turn 1 is \['Who\?', 'He\.'\], wanted an obj"),
    ],
)
def test_a_conversation_that_shows_another_clip_or_is_none_is_found(
    shards: Path, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    path = first_video(shards)

    def changed(name: str, data: bytes) -> bytes:
        if not name.endswith(".json"):
            return data
        record = json.loads(data)
        for row in record["rows"]:
            if turns := json.loads(row["conversation"]):
                row["conversation"] = json.dumps(change(turns))
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()

    rewritten(path, changed)
    trust(shards, path)
    assert any(re.search(message, problem) for problem in problems(shards))
