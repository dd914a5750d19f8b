"""One shard, written in the test's own process: what is hashed, and what that finds."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from support.flat_videos import write_flat_video
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.shard.clip_records import ShardSettings
from vxp_data.pipeline.shard.command import shard_settings
from vxp_data.pipeline.shard.costs import weigh
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.pipeline.shard.write_shard import WrittenShard, find_shard, write_shard
from vxp_data.settings.prune import load_config
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import read_bytes
from vxp_data.storage.digest import CHUNK_BYTES, sampled_digest
from vxp_data.storage.folder import open_folder
from vxp_data.storage.local import local_file_version

NAME = "video-00000-0123456789ab.tar"
MIDDLE = 7 * CHUNK_BYTES // 2
"""A byte of the middle part of a sampled digest of a file of 7 parts."""


@pytest.fixture
def settings(mixed_run: Path) -> ShardSettings:
    run = open_run(mixed_run)
    record = run.read_run()
    return shard_settings(run, record, load_config(None, [], run_settings=record["config"]).config)


@pytest.fixture
def videos(mixed_run: Path, settings: ShardSettings) -> pa.Table:
    """The kept rows about videos."""
    rows = weigh(kept_rows(open_run(mixed_run)), settings).rows
    return rows.filter(pc.equal(rows["modality"], "video"))


@pytest.fixture
def big(videos: pa.Table, tmp_path: Path) -> pa.Table:
    """One of them about a file of 28 MiB that is named by a sample of it, as one above 64 MiB."""
    path = write_flat_video(tmp_path / "big.mp4", num_frames=9)
    os.truncate(path, 7 * CHUNK_BYTES)
    facts = {
        "media_uri": str(path),
        "media_id": sampled_digest(path),
        "num_bytes": 7 * CHUNK_BYTES,
        "file_version": local_file_version(str(path)),
    }
    rows = videos.slice(0, 1)
    for name, value in facts.items():
        index = rows.column_names.index(name)
        rows = rows.set_column(index, rows.schema.field(index), [[value]])
    return rows


def flip_behind_its_time(path: Path, at: int) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def clips_of(folder: Path) -> list[tuple[ShardClip, bytes]]:
    with (folder / NAME).open("rb") as file:
        found = list(read_clips(file))
        return [(clip, read_bytes(file, clip.payloads[0])) for clip in found if clip.payloads]


def reasons(shard: WrittenShard) -> list[str]:
    return shard.quarantined["reason"].to_pylist()


def test_the_payload_comes_before_the_record_that_has_its_hash(
    videos: pa.Table, settings: ShardSettings, tmp_path: Path
) -> None:
    written = write_shard(NAME, videos, open_folder(tmp_path), settings)
    data = (tmp_path / NAME).read_bytes()
    assert (written.entry.num_bytes, written.entry.sha256) == (
        len(data),
        hashlib.sha256(data).hexdigest(),
    )
    with tarfile.open(tmp_path / NAME) as tar:
        suffixes = [name.partition(".")[2] for name in tar.getnames()]
    assert suffixes == ["video", "json"] * written.entry.num_clips
    clips = clips_of(tmp_path)
    assert len(clips) == written.entry.num_clips > 1
    for clip, payload in clips:
        assert clip.record.payload.sha256 == hashlib.sha256(payload).hexdigest()
        assert payload == Path(clip.record.media.uri).read_bytes()


def test_a_file_named_by_a_sample_gets_the_hash_of_all_its_bytes(
    big: pa.Table, settings: ShardSettings, tmp_path: Path
) -> None:
    out = open_folder(tmp_path / "out")
    written = write_shard(NAME, big, out, settings)
    ((clip, payload),) = clips_of(tmp_path / "out")
    assert payload == (tmp_path / "big.mp4").read_bytes()
    assert clip.record.payload.sha256 == hashlib.sha256(payload).hexdigest()
    found = find_shard(NAME, big, out, settings)
    assert found is not None
    assert found.entry == written.entry


@pytest.mark.parametrize("at", [CHUNK_BYTES - 1, MIDDLE, 7 * CHUNK_BYTES - 1])
def test_a_flipped_bit_of_the_sample_is_found_while_copying(
    big: pa.Table, settings: ShardSettings, tmp_path: Path, at: int
) -> None:
    flip_behind_its_time(tmp_path / "big.mp4", at)
    written = write_shard(NAME, big, open_folder(tmp_path / "out"), settings)
    assert reasons(written) == ["source_changed"]
    assert "what was pruned had sampled:" in written.quarantined["message"][0].as_py()


def test_a_flipped_bit_of_each_of_several_files_is_found(
    videos: pa.Table, settings: ShardSettings, tmp_path: Path
) -> None:
    uris = sorted(set(videos["media_uri"].to_pylist()))
    copies = {}
    for number, uri in enumerate(uris):
        copies[uri] = tmp_path / f"{number}.mp4"
        copies[uri].write_bytes(Path(uri).read_bytes())
    for name, values in (
        ("media_uri", [str(copies[uri]) for uri in videos["media_uri"].to_pylist()]),
        (
            "file_version",
            [local_file_version(str(copies[uri])) for uri in videos["media_uri"].to_pylist()],
        ),
    ):
        index = videos.column_names.index(name)
        videos = videos.set_column(index, videos.schema.field(index), [values])
    contents = [copies[uri].read_bytes() for uri in uris]
    alone = [uri for uri, data in zip(uris, contents, strict=True) if contents.count(data) == 1]
    changed = [copies[uri] for uri in alone[:2]]
    for path in changed:
        flip_behind_its_time(path, path.stat().st_size - 1)
    written = write_shard(NAME, videos, open_folder(tmp_path / "out"), settings)
    assert set(reasons(written)) == {"source_changed"}
    assert set(written.quarantined["uri"].to_pylist()) == {str(path) for path in changed}
    assert written.entry.num_clips > 0
    data = (tmp_path / "out" / NAME).read_bytes()
    assert written.entry.sha256 == hashlib.sha256(data).hexdigest()
