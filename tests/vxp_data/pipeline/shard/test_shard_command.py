"""From a pruned run to shards and back, in one shared Ray, over small videos of every kind."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from support import ffmpeg_truth
from support import s3 as s3_server
from support.mixed_media import COPY
from support.runs import caption_row, run_prune, run_shard, shard_bytes, table, write_rows
from support.shard_fixtures import make_video
from vxp_data.core.sampling_plans import SamplingRule, draw_plan
from vxp_data.core.timeline import unpack_timeline
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.pipeline.shard.index import read_index
from vxp_data.pipeline.verify.shards import verify_shards
from vxp_data.shard_format import ClipRecord, Payload
from vxp_data.shards.frames_payload import unpack_frames
from vxp_data.shards.shard_file import read_clips
from vxp_data.shards.tar_file import read_bytes
from vxp_data.storage.folder import open_folder

pytestmark = pytest.mark.usefixtures("engine")

VXP_DATA = Path(sys.executable).with_name("vxp-data")


def clips_of(out: Path) -> list[tuple[ClipRecord, bytes]]:
    """Every clip of every shard that the index names, with its payload's bytes."""
    found = []
    for entry in read_index(open_folder(out)).shards:
        with (out / entry.name).open("rb") as file:
            for clip in list(read_clips(file)):
                payload = read_bytes(file, clip.payloads[0]) if clip.payloads else b""
                found.append((clip.record, payload))
    return found


def kept_ids(run: Path) -> list[str]:
    return [row["sample_id"] for row in table(run, "decisions") if row["decision"] == "keep"]


def by_stem(out: Path) -> dict[str, tuple[ClipRecord, bytes]]:
    """Clips of whole files, by their files' names."""
    return {
        Path(record.media.uri).name: (record, payload)
        for record, payload in clips_of(out)
        if record.media.uri
        and record.clip_end_s == record.media.duration_s
        and record.clip_start_s == 0
    }


def test_every_kept_row_is_there_once_with_what_the_run_knows_of_it(
    mixed_run: Path, mixed_shards: Path
) -> None:
    rows = [row for record, _ in clips_of(mixed_shards) for row in record.rows]
    assert sorted(row.sample_id for row in rows) == sorted(kept_ids(mixed_run))
    decisions = {row["sample_id"]: row for row in table(mixed_run, "decisions")}
    samples = {row["sample_id"]: row for row in table(mixed_run, "samples")}
    pruned = [row for row in decisions.values() if row["decision"] == "prune"]
    assert len(pruned) == 2
    for row in rows:
        decision, sample = decisions[row.sample_id], samples[row.sample_id]
        for name in ("dataset", "row", "task", "decision", "reason", "measure"):
            assert getattr(row, name) == decision[name]
        assert row.annotation.encode() == sample["annotation"]
        assert row.conversation == sample["turns"]
        for name in ("score", "threshold"):
            value = decision[name]
            assert getattr(row, f"has_{name}") == (value is not None and math.isfinite(value))
            if getattr(row, f"has_{name}"):
                assert getattr(row, name) == value


def test_the_index_and_the_tables_tell_what_is_there(mixed_run: Path, mixed_shards: Path) -> None:
    index = read_index(open_folder(mixed_shards))
    assert (index.payload, index.num_epochs) == (mixed_shards.name, 2)
    assert {p.name for p in mixed_shards.iterdir()} == {
        "index.json", "samples.parquet", "quarantine.parquet", *(s.name for s in index.shards)
    }  # fmt: skip
    assert Counter(shard.kind for shard in index.shards) == {"image": 2, "text": 2, "video": 2}
    for shard in index.shards:
        data = (mixed_shards / shard.name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard.sha256
        assert len(data) == shard.num_bytes
    samples = table(mixed_shards, "samples")
    assert sorted(row["sample_id"] for row in samples) == sorted(kept_ids(mixed_run))
    for row in samples:
        data = (mixed_shards / index.shards[row["shard"]].name).read_bytes()
        at = row["json_offset"]
        record = ClipRecord.from_json(data[at : at + row["json_bytes"]])
        own = record.rows[row["place"]]
        assert (record.key, own.sample_id, own.task) == (row["key"], row["sample_id"], row["task"])
        payload = data[row["payload_offset"] : row["payload_offset"] + row["payload_bytes"]]
        assert len(payload) == record.payload.num_bytes
        if payload:
            assert hashlib.sha256(payload).hexdigest() == record.payload.sha256
        assert row["num_frames"] == (len(own.plans[0].frame_index) if own.plans else 0)
    assert index.quarantined_by_reason == {}


def test_videos_images_and_text_lie_apart(mixed_shards: Path) -> None:
    for shard in read_index(open_folder(mixed_shards)).shards:
        with (mixed_shards / shard.name).open("rb") as file:
            clips = list(read_clips(file))
        assert {clip.record.kind for clip in clips} == {shard.kind}
        suffix = {"video": shard.kind, "frames": "frames.tar", "none": ""}[mixed_shards.name]
        wanted = "" if shard.kind == "text" else suffix
        assert {clip.record.payload.suffix for clip in clips} == {wanted}


def test_rows_of_equal_content_share_one_clip_and_parts_have_their_own(mixed_shards: Path) -> None:
    clips = clips_of(mixed_shards)
    assert len({record.key for record, _ in clips}) == len(clips)
    names = {
        record.key: sorted(row.sample_id.partition("/")[2] for row in record.rows)
        for record, _ in clips
    }
    first = next(own for own in names.values() if "caption-0.mp4" in own)
    assert f"caption-{COPY}" in first
    assert ["part"] in names.values()
    assert ["end"] in names.values()
    uris = {Path(record.media.uri).name for record, _ in clips}
    assert "0.mp4" in uris
    assert COPY not in uris


def test_plans_are_drawn_from_the_stored_rule_for_each_row_and_epoch(mixed_shards: Path) -> None:
    for record, _ in clips_of(mixed_shards):
        rule = SamplingRule.from_dict(json.loads(record.sampling))
        for row in record.rows:
            if record.kind == "text":
                assert row.plans == []
                continue
            assert [plan.epoch for plan in row.plans] == [0, 1]
            if record.kind == "image":
                assert [(p.frame_index, p.time_s) for p in row.plans] == [([0], [0.0])] * 2
                continue
            time_s_N = unpack_timeline(record.media.timeline)
            for plan in row.plans:
                again = draw_plan(
                    rule,
                    sample_id=row.sample_id,
                    epoch=plan.epoch,
                    time_s_N=time_s_N,
                    duration_s=record.media.duration_s,
                    source_fps=record.media.fps,
                    clip_start_s=record.clip_start_s,
                    clip_end_s=record.clip_end_s,
                )
                assert plan.frame_index == again.frame_index_F.tolist()
                assert plan.time_s == again.time_s_F.tolist()
                # The first is shown at the start, and may have begun before it.
                assert record.clip_start_s <= min(plan.time_s[1:], default=math.inf)
                assert max(plan.time_s) < record.clip_end_s


def test_a_payload_is_the_files_own_bytes(mixed_run: Path, tmp_path: Path) -> None:
    run_shard(mixed_run, tmp_path / "out")
    media = mixed_run.parent / "media"
    clips = clips_of(tmp_path / "out")
    assert len({record.payload.suffix for record, _ in clips}) == 3
    for record, payload in clips:
        if record.kind == "text":
            assert payload == b""
        else:
            assert payload == (media / Path(record.media.uri).name).read_bytes()


def test_images_are_the_planned_frames_of_an_independent_decode(
    mixed_run: Path, tmp_path: Path
) -> None:
    run_shard(mixed_run, tmp_path / "out", shard__payload="frames", shard__frame_px=96)
    clips = clips_of(tmp_path / "out")
    assert sum(record.kind == "video" for record, _ in clips) == 9
    for record, payload in clips:
        if record.kind == "text":
            continue
        path = mixed_run.parent / "media" / Path(record.media.uri).name
        truth = ffmpeg_truth.decode(path, tmp_path / "raw", side_px=96)
        wanted = {i for row in record.rows for plan in row.plans for i in plan.frame_index}
        images = unpack_frames(payload)
        assert set(images) == wanted
        assert record.payload.num_frames == record.payload.num_exact == len(wanted)
        for index, image_HWC in images.items():
            # FFmpeg versions place chroma otherwise: 5 levels on these blocks; JPEG adds one.
            away_N = np.abs(truth.frames_NHWC.astype(int) - image_HWC).mean(axis=(1, 2, 3))
            assert away_N[index] < 8, path.name
            assert np.delete(away_N, index).min(initial=255) > 40, path.name
        if record.kind == "video":
            indices = {i: t for row in record.rows for p in row.plans
                      for i, t in zip(p.frame_index, p.time_s, strict=True)}  # fmt: skip
            start_s = truth.time_s_N[0]
            for index, time_s in indices.items():
                assert truth.time_s_N[index] - start_s == pytest.approx(time_s, abs=1e-3)


def test_webp_images_of_another_size(mixed_run: Path, tmp_path: Path) -> None:
    settings = {"shard__image_format": "webp", "shard__frame_px": 32, "shard__quality": 80}
    run_shard(mixed_run, tmp_path / "out", shard__payload="frames", **settings)
    record, payload = by_stem(tmp_path / "out")["one.mp4"]
    assert payload[:13] == b"00000000.webp"
    assert unpack_frames(payload)[0].shape == (32, 32, 3)
    assert (record.payload.image_format, record.payload.width_px) == ("webp", 32)
    assert verify_shards(open_folder(tmp_path / "out")).problems == []


def test_the_same_run_gives_the_same_bytes_again(
    mixed_run: Path, mixed_shards: Path, tmp_path: Path
) -> None:
    settings = {"shard__payload": mixed_shards.name, "shard__world_size": 2}
    run_shard(mixed_run, tmp_path / "again", shard__num_epochs=2, **settings)
    assert shard_bytes(tmp_path / "again") == shard_bytes(mixed_shards)


@pytest.mark.slow
def test_another_number_of_workers_gives_the_same_bytes(mixed_run: Path, tmp_path: Path) -> None:
    run_shard(mixed_run, tmp_path / "two", shard__workers=3)
    command = [VXP_DATA, "shard", mixed_run, "--out", tmp_path / "one", "--workers", "3"]
    small = ["--set", "cluster.num_cpus=1"]
    done = subprocess.run(
        [*command, *small], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "17 kept rows: 17 in 7 shards, 0 quarantined" in done.stdout
    assert "2 image shards do not divide by 3: there are too few clips" in done.stdout
    assert "MB are whole videos of which several parts are samples" in done.stdout
    assert shard_bytes(tmp_path / "one") == shard_bytes(tmp_path / "two")


def test_limits_and_world_size_are_kept_to(mixed_run: Path, tmp_path: Path) -> None:
    result = run_shard(mixed_run, tmp_path / "few", shard__max_samples=2)
    videos = [shard for shard in result.index.shards if shard.kind == "video"]
    assert sorted(shard.num_clips for shard in videos) == [1, 2, 2, 2, 2]
    result = run_shard(mixed_run, tmp_path / "small", shard__shard_bytes=60_000)
    total = sum(shard.num_bytes for shard in result.index.shards if shard.kind == "video")
    assert len([s for s in result.index.shards if s.kind == "video"]) == math.ceil(total / 60_000)


def test_a_second_command_finds_everything_there(mixed_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run_shard(mixed_run, out, shard__payload="frames", shard__frame_px=32)
    before = shard_bytes(out)
    again = run_shard(mixed_run, out, shard__payload="frames", shard__frame_px=32)
    assert (first.num_found, again.num_found) == (0, len(first.index.shards))
    assert shard_bytes(out) == before


@pytest.mark.parametrize("payload", ["video", "frames"])
def test_what_an_earlier_run_left_is_believed_only_to_the_byte(
    mixed_run: Path, tmp_path: Path, payload: str
) -> None:
    out = tmp_path / "out"
    settings = {"shard__payload": payload, "shard__frame_px": 32, "shard__max_samples": 3}
    result = run_shard(mixed_run, out, **settings)
    before = shard_bytes(out)
    videos = [shard.name for shard in result.index.shards if shard.kind == "video"]
    for index, name in enumerate(videos[:3]):
        data = bytearray(before[name])
        with (out / name).open("rb") as file:
            clip = list(read_clips(file))[-1]
        assert clip.payloads
        if index == 0:  # in a payload
            data[clip.payloads[0].offset + clip.payloads[0].num_bytes // 2] ^= 1
        elif index == 1:  # in an annotation
            at = data.index(b"Please describe", clip.json.offset)
            data[at] ^= 0x20
        else:  # its end
            del data[-1024:]
        (out / name).write_bytes(data)
    (out / ".video-00000-0123456789ab.tar.01234567.part").write_bytes(b"killed")
    (out / "index.json").unlink()
    again = run_shard(mixed_run, out, **settings)
    assert again.num_found == len(result.index.shards) - 3
    assert shard_bytes(out) == before


def test_a_folder_with_other_tars_or_a_run_is_refused(mixed_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_shard(mixed_run, out)
    before = shard_bytes(out)
    with pytest.raises(UserError, match=r"holds tars of another run or of other settings \(image"):
        run_shard(mixed_run, out, shard__payload="none")
    assert shard_bytes(out) == before
    (out / "mine.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"\(mine.tar, 1 in all\)"):
        run_shard(mixed_run, out)
    with pytest.raises(UserError, match=r"holds a run. Choose another --out, such as .*shards"):
        run_shard(mixed_run, mixed_run)


def test_a_folder_in_use_is_refused(mixed_run: Path, tmp_path: Path) -> None:
    with (
        run_lock(open_folder(tmp_path / "out"), "vxp-data shard"),
        pytest.raises(UserError, match=r"is in use by `vxp-data shard`"),
    ):
        run_shard(mixed_run, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_run_that_kept_nothing_is_refused(tmp_path: Path) -> None:
    make_video(tmp_path / "0.mp4")
    manifest = write_rows(tmp_path / "rows.json", [caption_row("a", "0.mp4")])
    run_prune(manifest, tmp_path / "run", thresholds__default="-1")
    with pytest.raises(UserError, match="no row was kept"):
        run_shard(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("payload", list(Payload))
def test_a_source_that_is_not_what_it_was_is_quarantined_and_counted(
    tmp_path: Path, payload: Payload
) -> None:
    names = ["good", "gone", "cut", "other", "empty"]
    for seed, name in enumerate(names):
        make_video(tmp_path / f"{name}.mp4", 20, seed=seed)
    shutil.copyfile(tmp_path / "gone.mp4", tmp_path / "duplicate.mp4")
    make_video(tmp_path / "lost.mp4", 20, seed=9)
    shutil.copyfile(tmp_path / "lost.mp4", tmp_path / "left.mp4")
    rows = [caption_row(name, f"{name}.mp4") for name in [*names, "lost", "left"]]
    rows.append(caption_row("again", "cut.mp4"))
    run = tmp_path / "run"
    run_prune(write_rows(tmp_path / "rows.json", rows), run, thresholds__default="keep 1.0")
    (tmp_path / "gone.mp4").unlink()
    (tmp_path / "lost.mp4").unlink()
    os.truncate(tmp_path / "cut.mp4", (tmp_path / "cut.mp4").stat().st_size // 2)
    make_video(tmp_path / "other.mp4", 20, seed=77)
    os.truncate(tmp_path / "empty.mp4", 0)
    out = tmp_path / "out"
    result = run_shard(run, out, shard__payload=payload.value, shard__frame_px=32)
    assert sorted(
        row.sample_id.partition("/")[2] for record, _ in clips_of(out) for row in record.rows
    ) == ["good", "left", "lost"]  # 'lost' is gone, but 'left' has the same bytes
    assert by_stem(out)["left.mp4"]
    reasons = {
        row["sample_id"].partition("/")[2]: row["reason"] for row in table(out, "quarantine")
    }
    changed = "source_changed"
    wanted = {"gone": "missing", "cut": changed, "again": changed, "other": changed}
    if payload is Payload.FRAMES:  # found by decoding: what it is, where it is no video any more
        assert reasons.pop("empty") == "empty"
        wanted |= {"cut": "truncated", "again": "truncated"}
    else:
        assert reasons.pop("empty") == changed
    assert reasons == wanted
    by_reason = Counter(row["reason"] for row in table(out, "quarantine"))
    assert result.index.quarantined_by_reason == dict(by_reason)
    assert result.num_kept_rows == 8 == 3 + sum(by_reason.values())
    assert verify_shards(open_folder(out)).problems == []


def test_a_file_changed_behind_its_own_size_and_time_is_found_while_copying(tmp_path: Path) -> None:
    for seed in range(3):
        make_video(tmp_path / f"{seed}.mp4", 20, seed=seed)
    rows = [caption_row(str(seed), f"{seed}.mp4") for seed in range(3)]
    run, out = tmp_path / "run", tmp_path / "out"
    run_prune(write_rows(tmp_path / "rows.json", rows), run, thresholds__default="keep 1.0")
    path = tmp_path / "1.mp4"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = run_shard(run, out)
    assert result.index.quarantined_by_reason == {"source_changed": 1}
    assert [Path(record.media.uri).name for record, _ in clips_of(out)] == sorted(
        ["0.mp4", "2.mp4"], key=lambda name: by_stem(out)[name][0].key
    )
    (row,) = table(out, "quarantine")
    assert (Path(row["uri"]).name, row["reason"]) == ("1.mp4", "source_changed")
    assert "what was pruned had" in row["message"]
    assert verify_shards(open_folder(out)).problems == []


def test_a_clip_whose_file_came_back_is_in_the_next_try(tmp_path: Path) -> None:
    for seed in range(2):
        make_video(tmp_path / f"{seed}.mp4", 20, seed=seed)
    rows = [caption_row(str(seed), f"{seed}.mp4") for seed in range(2)]
    run, out = tmp_path / "run", tmp_path / "out"
    run_prune(write_rows(tmp_path / "rows.json", rows), run, thresholds__default="keep 1.0")
    (tmp_path / "1.mp4").rename(tmp_path / "away")
    assert run_shard(run, out).index.quarantined_by_reason == {"missing": 1}
    (tmp_path / "0.mp4").rename(tmp_path / "away too")
    with pytest.raises(UserError, match=r"none of the kept rows' files can be used .*\(2 rows mis"):
        run_shard(run, tmp_path / "none")
    assert {path.name for path in (tmp_path / "none").iterdir()} == {"quarantine.parquet"}
    (tmp_path / "away").rename(tmp_path / "1.mp4")
    (tmp_path / "away too").rename(tmp_path / "0.mp4")
    result = run_shard(run, out)
    assert (result.index.quarantined_by_reason, result.index.samples.num_rows) == ({}, 2)
    run_shard(run, tmp_path / "fresh")
    assert shard_bytes(tmp_path / "fresh") == shard_bytes(out)


def test_frames_that_cannot_be_decoded_are_stood_in_for_and_counted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "0.mp4", 40)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 2 * (len(data) - start) // 3 :][:400] = bytes(400)
    at = start + (len(data) - start) // 3
    data[at : at + 3000] = bytes(3000)
    path.write_bytes(data)
    run = tmp_path / "run"
    run_prune(write_rows(tmp_path / "rows.json", [caption_row("a", "0.mp4")]), run)
    result = run_shard(run, tmp_path / "out", shard__payload="frames", shard__frame_px=64,
                       sampling__policy="fixed_fps", sampling__fps=4.0)  # fmt: skip
    ((record, payload),) = clips_of(tmp_path / "out")
    inexact = record.payload.num_frames - record.payload.num_exact
    assert inexact == result.num_inexact > 0
    assert len(unpack_frames(payload)) == record.payload.num_frames


def kill_workers(out: Path, done: threading.Event, times: int) -> int:
    """Kill processes that write shards, as often as asked or until told to stop."""
    num_killed = 0
    while not done.is_set() and num_killed < times:
        for process in psutil.Process().children():
            if num_killed < times and writes_below(out, process):
                process.kill()
                num_killed += 1
        time.sleep(0.002)
    return num_killed


def writes_below(folder: Path, process: psutil.Process) -> bool:
    try:
        return any(Path(file.path).is_relative_to(folder) for file in process.open_files())
    except psutil.Error:
        return False


def test_a_worker_that_dies_is_started_again(mixed_run: Path, tmp_path: Path) -> None:
    settings = {"shard__payload": "frames", "shard__max_samples": 3, "shard__frame_px": 640}
    run_shard(mixed_run, tmp_path / "quiet", **settings)
    done = threading.Event()
    killed: list[int] = []
    out = tmp_path / "out"
    killer = threading.Thread(target=lambda: killed.append(kill_workers(out, done, times=1)))
    killer.start()
    run_shard(mixed_run, out, **settings)
    done.set()
    killer.join()
    assert killed == [1]
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "quiet")


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_is_an_error_that_says_so(
    mixed_run: Path, tmp_path: Path
) -> None:
    done = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(tmp_path / "out", done, 10**6))
    killer.start()
    try:
        with pytest.raises(UserError, match=r"the worker that wrote it died 4 times"):
            run_shard(mixed_run, tmp_path / "out", shard__payload="frames", shard__frame_px=640)
    finally:
        done.set()
        killer.join()
    assert not (tmp_path / "out" / "index.json").exists()
    assert not (tmp_path / "out" / "lock.json").exists()


def test_a_full_disk_is_the_users_to_mend(mixed_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot"):
        run_shard(mixed_run, tmp_path / "out")


def stored(s3: s3_server.Bucket, prefix: str) -> dict[str, bytes]:
    return {key.removeprefix(prefix): s3.get(key) for key in s3.listing(prefix)}


def test_shards_in_an_object_store_are_those_on_a_disk(
    mixed_run: Path, tmp_path: Path, s3: s3_server.Bucket
) -> None:
    run_shard(mixed_run, tmp_path / "local")
    result = run_shard(mixed_run, f"{s3.uri}/shards")
    assert stored(s3, "shards/") == shard_bytes(tmp_path / "local")
    puts = [request.path for request in s3.requests if request.method == "PUT"]
    assert "/shards/index.json" in puts[-1]
    assert verify_shards(open_folder(f"{s3.uri}/shards")).problems == []
    again = run_shard(mixed_run, f"{s3.uri}/shards")
    assert again.num_found == len(result.index.shards)


def test_a_store_that_fails_now_and_then_changes_nothing(
    mixed_run: Path, tmp_path: Path, s3: s3_server.Bucket
) -> None:
    run_shard(mixed_run, tmp_path / "local")
    s3.fail("status", method="PUT", path="video-", times=2, status=503)
    s3.fail("lost", method="PUT", path="samples.parquet")
    run_shard(mixed_run, f"{s3.uri}/shards")
    assert stored(s3, "shards/") == shard_bytes(tmp_path / "local")


@pytest.mark.slow
def test_the_corpus_once_with_each_payload(corpus: Path, tmp_path: Path) -> None:
    run_prune(corpus / "annotations.json", tmp_path / "run", thresholds__default="keep 1.0")
    for payload in Payload:
        out = tmp_path / payload.value
        result = run_shard(
            tmp_path / "run", out, shard__payload=payload.value, shard__frame_px=64,
            shard__world_size=4,
        )  # fmt: skip
        assert (result.num_kept_rows, result.index.quarantine.num_rows) == (80, 0)
        assert [shard.kind for shard in result.index.shards] == ["video"] * 4
        assert len(clips_of(out)) == 37
        ids = [row.sample_id for record, _ in clips_of(out) for row in record.rows]
        assert sorted(ids) == sorted(kept_ids(tmp_path / "run"))
        assert verify_shards(open_folder(out)).problems == []


def test_a_run_in_an_object_store_is_sharded_like_one_on_a_disk(
    mixed_run: Path, tmp_path: Path, s3: s3_server.Bucket
) -> None:
    for name in ("run.json", "samples.parquet", "media.parquet", "decisions.parquet"):
        s3.put(f"run/{name}", (mixed_run / name).read_bytes())
    assert open_run(f"{s3.uri}/run").read_run()
    run_shard(f"{s3.uri}/run", tmp_path / "out")
    run_shard(mixed_run, tmp_path / "local")
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "local")


def test_the_sample_table_is_plain_parquet(mixed_shards: Path) -> None:
    schema = pq.read_schema(mixed_shards / "samples.parquet")
    assert schema.names[:4] == ["shard", "key", "place", "sample_id"]


@pytest.mark.slow
def test_sources_in_an_object_store_give_the_payloads_of_a_disk(
    mixed_run: Path, tmp_path: Path, s3: s3_server.Bucket
) -> None:
    media = mixed_run.parent / "media"
    for path in media.iterdir():
        s3.put(f"media/{path.name}", path.read_bytes())
    run = tmp_path / "run"
    run_prune(media / "rows.json", run, f"{s3.uri}/media", thresholds__default="keep 1.0")
    for payload in ("video", "frames"):
        out = tmp_path / payload
        run_shard(run, out, shard__payload=payload, shard__frame_px=32)
        run_shard(mixed_run, tmp_path / "local", shard__payload=payload, shard__frame_px=32)
        here = {record.key: data for record, data in clips_of(tmp_path / "local") if data}
        there = {record.key: data for record, data in clips_of(out) if data}
        assert there == here
        assert verify_shards(open_folder(out)).problems == []
        shutil.rmtree(tmp_path / "local")
    s3.put("media/3.mp4", b"another file")
    s3.client.delete_object(Bucket=s3.name, Key="media/4.mp4")
    result = run_shard(run, tmp_path / "changed", shard__payload="none")
    assert result.index.quarantined_by_reason == {"missing": 1, "source_changed": 2}
    reasons = {Path(r["uri"]).name: r["reason"] for r in table(tmp_path / "changed", "quarantine")}
    assert reasons == {"3.mp4": "source_changed", "4.mp4": "missing"}
