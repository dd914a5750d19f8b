"""Rows of several media through sample, shard and export: each medium once, in its place."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from support import s3 as s3_server
from support.runs import by_sample, run_prune, shard_bytes, table
from support.several_media import (
    COPY,
    MAX_FRAMES,
    MEDIA,
    NUM_FRAMES,
    PARTS,
    SEVERAL,
    kind_of,
    messages,
    records,
    shown_frames,
    write_shards,
)
from vxp_data.cli import app
from vxp_data.core.sampling_plans import SamplingRule, draw_plan, image_plan
from vxp_data.core.timeline import unpack_timeline
from vxp_data.pipeline.verify.shards import verify_shards
from vxp_data.shard_index import ShardIndex
from vxp_data.storage.folder import open_folder

pytestmark = pytest.mark.usefixtures("engine")


def media_folder(run: Path) -> Path:
    return run.parent / "media"


def test_the_run_has_the_rows_as_they_are(several_run: Path) -> None:
    for row in table(several_run, "samples"):
        row_id = row["sample_id"].partition("/")[2]
        names = [Path(clip["media_uri"]).name for clip in row["clips"]]
        assert names == (MEDIA[row_id] if row_id in SEVERAL else [])
        assert json.loads(row["turns"]) == messages(row_id)


def test_several_media_are_one_sample_of_the_tar(several_run: Path, several_shards: Path) -> None:
    payload = several_shards.name
    found = records(several_shards)
    assert found.keys() == set(SEVERAL)
    keys = {row_id: record["key"] for row_id, (record, _) in found.items()}
    assert keys["two"] == keys["two-again"] == keys["two-copied"]
    assert len(set(keys.values())) == len(SEVERAL) - 2
    suffix = {"video": "{kind}", "frames": "frames.tar"}
    samples = {row["sample_id"]: row for row in pq.read_table(
        several_shards / "samples.parquet").to_pylist()}  # fmt: skip
    index = ShardIndex.from_json((several_shards / "index.json").read_bytes())
    for row_id, (record, row) in found.items():
        names, about = MEDIA[row_id], samples[row["sample_id"]]
        assert [clip["kind"] for clip in record["clips"]] == [kind_of(name) for name in names]
        assert [clip["rows"] for clip in record["clips"]] == [[] for _ in names]
        path = several_shards / index.shards[about["shard"]].name
        with tarfile.open(path) as tar:
            own = [m for m in tar.getmembers() if m.name.startswith(f"{record['key']}.")]
            data = [file.read() for m in own if (file := tar.extractfile(m))]
        wanted = [f"{i}.{suffix[payload].format(kind=kind_of(name))}" for i, name in
                  enumerate(names)] if payload != "none" else []  # fmt: skip
        assert [m.name.partition(".")[2] for m in own] == [*wanted, "json"]
        if payload == "none":
            assert record["payload_offset"] == [0] * len(names)
            assert (about["payload_offset"], about["payload_bytes"]) == (0, 0)
        else:
            offsets = [m.offset_data - own[0].offset_data for m in own[:-1]]
            assert record["payload_offset"] == offsets
            end = own[-2].offset_data + own[-2].size
            assert about["payload_offset"] == own[0].offset_data
            assert about["payload_bytes"] == end - own[0].offset_data
        if payload == "video":
            assert data[:-1] == [(media_folder(several_run) / name).read_bytes() for name in names]
        assert about["num_media"] == about["num_markers"] == len(names)
        assert about["num_frames"] == sum(len(own[0]["frame_index"]) for own in row["plans"])


@pytest.mark.parametrize("cap", [MAX_FRAMES, 8])
def test_every_medium_has_its_plans_and_all_together_keep_to_the_cap(
    several_run: Path, tmp_path: Path, cap: int
) -> None:
    write_shards(several_run, tmp_path, "none", sampling__max_frames=cap)
    capped = 0
    for row_id, (record, row) in records(tmp_path).items():
        assert len(row["plans"]) == len(MEDIA[row_id])
        rules = [SamplingRule.from_dict(json.loads(clip["sampling"])) for clip in record["clips"]]
        assert sum(rule.max_frames for rule in rules) <= cap
        whole = json.loads(record["sampling"])
        for name, clip, rule, plans in zip(
            MEDIA[row_id], record["clips"], rules, row["plans"], strict=True
        ):
            assert rule.to_dict() == whole | {"max_frames": rule.max_frames,
                                              "num_frames": rule.num_frames}  # fmt: skip
            assert rule.max_frames == 1 or kind_of(name) == "video"
            for epoch, plan in enumerate(plans):
                if kind_of(name) == "image":
                    again = image_plan(rule, epoch=epoch)
                else:
                    start_s, end_s = PARTS.get(row_id, (0.0, np.inf))
                    media = clip["media"]
                    again = draw_plan(
                        rule, sample_id=row["sample_id"], epoch=epoch,
                        time_s_N=unpack_timeline(media["timeline"]),
                        duration_s=media["duration_s"], source_fps=media["fps"],
                        clip_start_s=start_s, clip_end_s=end_s,
                    )  # fmt: skip
                    capped += not again.fps
                assert plan["frame_index"] == again.frame_index_F.tolist()
                assert plan["time_s"] == again.time_s_F.tolist()
    assert (capped > 0) == (cap == 8)  # the other has room for a rate that was drawn


def test_longer_videos_have_more_of_the_frames(several_run: Path, tmp_path: Path) -> None:
    write_shards(several_run, tmp_path / "out", "none", sampling__max_frames=9)
    found = records(tmp_path / "out")
    assert [json.loads(clip["sampling"])["max_frames"] for clip in found["two"][0]["clips"]] \
        == [3, 6]  # fmt: skip
    assert [json.loads(clip["sampling"])["max_frames"] for clip in found["lecture"][0]["clips"]] \
        == [7, 1, 1]  # fmt: skip


@pytest.mark.parametrize("several_shards", ["frames"], indirect=True)
def test_the_frames_are_those_of_each_file_decoded_alone(several_shards: Path) -> None:
    num_frames = 0
    for path in several_shards.glob("mixed-*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, rest = member.name.partition(".")
                if rest == "json":
                    continue
                file = tar.extractfile(member)
                assert file is not None
                record, _ = next(pair for pair in records(several_shards).values()
                                 if pair[0]["key"] == key)  # fmt: skip
                medium = int(rest.partition(".")[0])
                uri = Path(record["clips"][medium]["media"]["uri"])
                wanted = {i for row in record["rows"] for plan in row["plans"][medium]
                          for i in plan["frame_index"]}  # fmt: skip
                with tarfile.open(fileobj=io.BytesIO(file.read())) as images:
                    names = images.getnames()
                    frames = np.stack([np.asarray(Image.open(opened)) for name in names
                                       if (opened := images.extractfile(name))])  # fmt: skip
                assert [int(name.partition(".")[0]) for name in names] == sorted(wanted)
                assert shown_frames(frames, uri) == sorted(wanted)
                num_frames += len(names)
    assert num_frames > sum(len(MEDIA[row_id]) for row_id in SEVERAL)


def test_the_same_run_gives_the_same_bytes_and_whole_shards_are_kept(
    several_run: Path, several_shards: Path, tmp_path: Path
) -> None:
    wanted = shard_bytes(several_shards)
    first = write_shards(several_run, tmp_path, several_shards.name)
    assert shard_bytes(tmp_path) == wanted
    assert first.num_found == 0
    for name in ("index.json", "samples.parquet"):
        (tmp_path / name).unlink()
    found = write_shards(several_run, tmp_path, several_shards.name)
    assert found.num_found == len(found.index.shards)
    assert shard_bytes(tmp_path) == wanted


@pytest.mark.parametrize("payload", ["video", "frames", "none"])
def test_a_row_goes_when_one_of_its_media_went(
    several_run: Path, tmp_path: Path, payload: str
) -> None:
    folder = tmp_path / "all"
    shutil.copytree(several_run.parent / "media", folder / "media")
    run_prune(folder / "media" / "rows.json", folder / "run", thresholds__default="keep 1.0")
    (folder / "media" / "b.png").unlink()
    (folder / "media" / COPY).unlink()
    with (folder / "media" / "2.mp4").open("ab") as file:
        file.write(b"more")
    result = write_shards(folder / "run", folder / "shards", payload)
    gone = {row["sample_id"].partition("/")[2]: row for row in pq.read_table(
        folder / "shards" / "quarantine.parquet").to_pylist()}  # fmt: skip
    wanted = {"pages": ("missing", "b.png"), "lecture": ("source_changed", "2.mp4"),
              "cover": ("source_changed", "2.mp4"), "one": ("source_changed", "2.mp4")}  # fmt: skip
    assert {row_id: (row["reason"], Path(row["uri"]).name) for row_id, row in gone.items()} \
        == wanted  # fmt: skip
    assert all(row["message"] for row in gone.values())
    # '0.mp4' has the content of what is gone.
    assert records(folder / "shards").keys() == set(SEVERAL) - gone.keys()
    assert result.index.quarantine.num_rows == len(wanted)
    assert result.index.samples.num_rows == len(MEDIA) - len(wanted)


def test_media_in_an_object_store_are_all_there_when_a_row_is_written(
    several_run: Path, tmp_path: Path, s3: s3_server.Bucket
) -> None:
    media = media_folder(several_run)
    for path in media.iterdir():
        s3.put(f"media/{path.name}", path.read_bytes())
    run = tmp_path / "run"
    run_prune(media / "rows.json", run, f"{s3.uri}/media", thresholds__default="keep 1.0")
    write_shards(run, tmp_path / "out", "video")
    found = records(tmp_path / "out")
    assert found.keys() == set(SEVERAL)
    for row_id, (record, _) in found.items():
        wanted = [hashlib.sha256((media / name).read_bytes()).hexdigest() for name in MEDIA[row_id]]
        assert [clip["payload"]["sha256"] for clip in record["clips"]] == wanted
    assert verify_shards(open_folder(tmp_path / "out")).problems == []


def test_shards_of_tuples_cost_what_all_their_media_cost(several_run: Path, tmp_path: Path) -> None:
    result = write_shards(several_run, tmp_path, "video", sampling__max_frames=360)
    mixed = [entry for entry in result.index.shards if entry.kind == "mixed"]
    assert sum(entry.num_samples for entry in mixed) == len(SEVERAL)
    video_px, image_px = 64 * 48, 30 * 20
    share = {"lecture": 4.5 / 9.0}
    wanted = sum(
        video_px * NUM_FRAMES[name] * share.get(row_id, 1.0) if kind_of(name) == "video"
        else image_px
        for row_id in SEVERAL for name in MEDIA[row_id]
    )  # fmt: skip
    assert sum(entry.decode_cost for entry in mixed) == pytest.approx(wanted / 1e6, rel=0.01)


def test_sample_plans_every_medium_as_the_shards_have_it(
    several_run: Path, several_shards: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(several_run, tmp_path / "run")
    done = CliRunner().invoke(
        app, ["sample", str(run), "--epochs", "2", "--set", f"sampling.max_frames={MAX_FRAMES}"]
    )
    assert done.exit_code == 0, done.output
    assert f"{len(MEDIA) - 1} rows x 2 epochs planned" in done.output
    plans = table(run, "plans")
    found = records(several_shards)
    for row_id, media in MEDIA.items():
        own = [plan for plan in plans if plan["sample_id"] == f"rows/{row_id}"]
        wanted = [(medium, epoch) for medium in range(len(media)) for epoch in (0, 1)]
        assert [(plan["medium"], plan["epoch"]) for plan in own] == wanted
        for plan in own if row_id in SEVERAL else ():
            record, row = found[row_id]
            stored = row["plans"][plan["medium"]][plan["epoch"]]
            assert {name: plan[name] for name in stored} == stored
            assert plan["media_id"] == record["clips"][plan["medium"]]["media"]["media_id"]


# --- export -------------------------------------------------------------------------------------


def exported(run: Path, out: Path, layout: str) -> Path:
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(out), "--format", layout])
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize(("layout", "name"), [("llava", "rows.json"), ("ms-swift", "rows.jsonl")])
def test_an_export_prunes_to_the_same_rows(
    several_run: Path, tmp_path: Path, layout: str, name: str
) -> None:
    out = exported(several_run, tmp_path / name, layout)
    run_prune(out, tmp_path / "run", several_run.parent, thresholds__default="keep 1.0")
    columns = ("modality", "media_uri", "clip_start_s", "clip_end_s", "clips", "turns")

    def facts(run: Path) -> dict[str, Any]:
        return {row["sample_id"]: {c: row[c] for c in columns} for row in table(run, "samples")}

    assert facts(tmp_path / "run") == facts(several_run)
    assert set(by_sample(tmp_path / "run", "decision").values()) == {"keep"}


def test_a_llava_row_has_a_list_of_each_kind(several_run: Path, tmp_path: Path) -> None:
    rows = json.loads(exported(several_run, tmp_path / "out.json", "llava").read_text())
    media = media_folder(several_run)
    by_id = {row["id"]: row for row in rows}
    assert by_id["two"]["video"] == [str(media / "0.mp4"), str(media / "1.mp4")]
    assert by_id["two"]["conversations"][0]["value"] == "<image>\n<image>\nWhat is in two?"
    assert by_id["pages"]["image"] == [str(media / f"{name}.png") for name in "abc"]
    lecture = by_id["lecture"]
    assert (lecture["video"], lecture["image"]) == (
        str(media / "2.mp4"), [str(media / "a.png"), str(media / "b.png")],
    )  # fmt: skip
    assert [turn["value"] for turn in lecture["conversations"]] == [
        "<video>\n<image>\nWhat is in lecture?", "It is lecture.", "<image>\nAnd here?", "B.",
    ]  # fmt: skip
    assert (lecture["clip_start_s"], lecture["clip_end_s"]) == PARTS["lecture"]
    assert by_id["cover"]["conversations"][0]["value"].startswith("<image>\n<video>\n")
    assert by_id["one"]["video"] == str(media / "2.mp4")
    assert {row["number"] for row in rows} == {0, 1, 2, 3}


def test_an_ms_swift_row_has_as_many_markers_as_media(several_run: Path, tmp_path: Path) -> None:
    lines = exported(several_run, tmp_path / "out.jsonl", "ms-swift").read_text().splitlines()
    for row in map(json.loads, lines):
        names = [Path(path).name for kind in ("videos", "images") for path in row.get(kind, [])]
        assert Counter(names) == Counter(MEDIA[row["id"]])
        said = "".join(message["content"] for message in row["messages"])
        assert said.count("<video>") == len(row.get("videos", []))
        assert said.count("<image>") == len(row.get("images", []))


def test_parquet_has_a_row_for_each_medium(several_run: Path, tmp_path: Path) -> None:
    rows = pq.read_table(exported(several_run, tmp_path / "out.parquet", "parquet")).to_pylist()
    for row_id, media in MEDIA.items():
        own = [row for row in rows if row["sample_id"] == f"rows/{row_id}"]
        if not media:
            assert [(row["medium"], row["frame_index"]) for row in own] == [(None, [])]
            continue
        assert [row["medium"] for row in own] == list(range(len(media)))
        assert [Path(row["media_uri"]).name for row in own] == media
        assert [row["modality"] for row in own] == [kind_of(name) for name in media]
        assert all(row["frame_index"] for row in own)
        assert len({row["media_id"] for row in own}) == len(set(media))
