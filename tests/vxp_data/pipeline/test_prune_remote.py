"""The whole job with manifests, videos and run directory in a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_videos import make_videos

from support.runs import by_sample, caption_row, run_prune, table, write_rows
from support.s3 import Bucket
from vxp_data.core.thresholds import parse_keep
from vxp_data.errors import UserError
from vxp_data.pipeline.redecide import redecide

pytestmark = pytest.mark.usefixtures("engine")

OUTPUTS = (
    "decisions.parquet",
    "dropped.json",
    "kept.json",
    "media.parquet",
    "quarantine.parquet",
    "samples.parquet",
    "scores.parquet",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight of the demo's videos, and their annotations."""
    folder = tmp_path_factory.mktemp("videos")
    manifest: Path = make_videos(folder)
    rows = json.loads(manifest.read_text(encoding="utf-8"))
    wanted = sorted({row["video"] for row in rows})[::3]
    return write_rows(folder / "some.json", [row for row in rows if row["video"] in wanted])


def fetched(s3: Bucket, prefix: str, folder: Path) -> Path:
    """Copy a prefix out of the bucket, past our own code."""
    for key in s3.listing(prefix):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get(key))
    return folder / prefix


def test_a_run_in_a_store_is_the_run_on_a_disk(videos: Path, s3: Bucket, tmp_path: Path) -> None:
    run_prune(videos, tmp_path / "disk")
    run_prune(videos, f"{s3.uri}/run")
    puts = [request.path for request in s3.requests if request.method == "PUT"]
    assert puts[0].startswith(f"/{s3.name}/run/lock.json")
    assert puts[-1].startswith(f"/{s3.name}/run/run.json")
    remote = fetched(s3, "run", tmp_path / "remote")
    for name in OUTPUTS:
        assert (remote / name).read_bytes() == (tmp_path / "disk" / name).read_bytes(), name
    assert json.loads((remote / "run.json").read_text())["decided"]["outputs"] == ["kept.json"]
    assert "run/lock.json" not in s3.listing()
    again = run_prune(videos, f"{s3.uri}/run")
    assert (again.num_files, again.totals.clips) == (0, 0)

    decided, _ = redecide(f"{s3.uri}/run", measure=None, thresholds={}, default=parse_keep("0.25"))
    kept = json.loads(s3.get("run/kept.json"))
    assert len(kept) == decided.num_kept < len(json.loads((remote / "kept.json").read_text()))


def test_a_run_in_a_store_survives_its_failures(videos: Path, s3: Bucket, tmp_path: Path) -> None:
    run_prune(videos, tmp_path / "disk")
    for method in ("GET", "PUT", "HEAD"):
        s3.fail("status", method=method, status=503, times=2)
        s3.fail("lost", method=method, times=1)
    s3.fail("cut", method="GET", times=2)
    run_prune(videos, f"{s3.uri}/run")
    remote = fetched(s3, "run", tmp_path / "remote")
    for name in OUTPUTS:
        assert (remote / name).read_bytes() == (tmp_path / "disk" / name).read_bytes(), name


def test_a_bucket_that_is_not_there_is_one_clear_message(videos: Path, s3: Bucket) -> None:
    with pytest.raises(UserError, match=r"cannot write s3://gone-.*/lock.json: no such bucket"):
        run_prune(videos, f"s3://gone-{s3.name}/run")
    with pytest.raises(UserError, match="holds no finished run"):
        redecide(f"{s3.uri}/nothing", measure=None, thresholds={}, default=None)
    assert s3.listing() == []


def test_manifests_of_every_format_are_read_from_a_store(
    videos: Path, s3: Bucket, tmp_path: Path
) -> None:
    rows = [
        {"id": row["id"], "video": row["video"], "caption": "A scene."}
        for row in json.loads(videos.read_text(encoding="utf-8"))[:3]
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    csv = "id,video,caption\r\n" + "".join(f"{r['id']},{r['video']},A scene.\r\n" for r in rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    manifests = [
        s3.put("in/a.json", json.dumps(rows).encode()),
        s3.put("in/b.jsonl", lines.encode()),
        s3.put("in/c.csv", csv.encode()),
        s3.put("in/d.parquet", (tmp_path / "t.parquet").read_bytes()),
    ]
    out = tmp_path / "run"
    result = run_prune(manifests, out, videos.parent, thresholds__default="keep 1.0")
    assert result.decided.num_kept == 12
    assert (out / "kept.b.jsonl").read_text() == lines
    assert (out / "kept.c.csv").read_bytes() == csv.encode()
    assert pq.read_table(out / "kept.d.parquet").to_pylist() == rows
    with pytest.raises(UserError, match=r"s3://.*/no.json: cannot read the manifest: no such obj"):
        run_prune(f"{s3.uri}/in/no.json", tmp_path / "other")
    broken = s3.put("in/broken.json", b'[{"id": 1},\n {"id": }]')
    with pytest.raises(UserError, match=r"s3://.*/broken.json: line 2, column 9"):
        run_prune(broken, tmp_path / "other")


@pytest.fixture
def remote_rows(videos: Path, s3: Bucket) -> list[dict[str, Any]]:
    """Put the videos under 'v/'; return the rows, which name them from there."""
    rows: list[dict[str, Any]] = json.loads(videos.read_text(encoding="utf-8"))
    for name in {row["video"] for row in rows}:
        s3.put(f"v/{name}", (videos.parent / name).read_bytes())
    return rows


def test_videos_in_a_store_are_decided_like_those_on_a_disk(
    videos: Path, s3: Bucket, remote_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    run_prune(videos, tmp_path / "disk")
    manifest = s3.put("rows.json", json.dumps(remote_rows).encode())
    out = f"{s3.uri}/run"
    s3.fail("status", method="GET", path="/v/", status=503, times=3)
    s3.fail("cut", method="GET", path="/v/", times=2)
    first = run_prune(manifest, out, f"{s3.uri}/v")
    remote = fetched(s3, "run", tmp_path / "remote")
    for column in ("decision", "reason", "score", "media_id"):
        wanted = by_sample(tmp_path / "disk", column)
        got = by_sample(remote, column)
        assert {k: str(v) for k, v in got.items()} == {k: str(v) for k, v in wanted.items()}
    names = {row["video"] for row in remote_rows}
    sizes = {f"{s3.uri}/v/{name}": (videos.parent / name).stat().st_size for name in names}
    assert {row["uri"]: row["bytes_fetched"] for row in table(remote, "media")} == sizes
    record = json.loads((remote / "run.json").read_text())
    assert record["timings"]["bytes_fetched"] == first.totals.bytes_fetched == sum(sizes.values())
    assert record["datasets"][0]["media_root"] == f"{s3.uri}/v"

    assert run_prune(manifest, out, f"{s3.uri}/v").num_files == 0
    changed, other = sorted(names)[:2]
    s3.put(f"v/{changed}", (videos.parent / other).read_bytes())
    assert run_prune(manifest, out, f"{s3.uri}/v").num_files == 1


def test_what_could_not_be_fetched_is_tried_again_by_the_same_command(
    videos: Path, s3: Bucket, remote_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    manifest = write_rows(tmp_path / "rows.json", remote_rows)
    broken = remote_rows[0]["video"]
    s3.fail("cut", method="GET", path=f"/v/{broken}", times=99)
    out = tmp_path / "run"
    settings = {"fetch__attempts": 2, "thresholds__default": "keep 1.0"}
    result = run_prune(manifest, out, f"{s3.uri}/v", **settings)
    lost = sum(row["video"] == broken for row in remote_rows)
    assert result.decided.quarantined_by_reason["fetch_failed"] == lost
    s3.heal()
    again = run_prune(manifest, out, f"{s3.uri}/v", **settings)
    assert again.num_files == 1
    assert "fetch_failed" not in again.decided.quarantined_by_reason
    run_prune(videos, tmp_path / "disk", thresholds__default="keep 1.0")
    assert by_sample(out, "decision") == by_sample(tmp_path / "disk", "decision")


def test_a_prefix_of_videos_is_a_manifest(
    s3: Bucket, remote_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    names = sorted({row["video"] for row in remote_rows})
    s3.put("v/notes.txt", b"no video")
    s3.put("v/.hidden.mp4", b"")
    run_prune(f"{s3.uri}/v", tmp_path / "run", thresholds__default="keep 1.0")
    kept = (tmp_path / "run" / "kept.jsonl").read_text().splitlines()
    lost = {row["sample_id"].split("/", 1)[1] for row in table(tmp_path / "run", "quarantine")}
    assert sorted([json.loads(line)["video"] for line in kept] + list(lost)) == names


def test_media_lie_below_their_root_and_nowhere_else(
    videos: Path, s3: Bucket, remote_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    s3.put("other/a.mp4", b"secret")
    video = remote_rows[0]["video"]
    rows = {
        "inside": video,
        "whole": f"{s3.uri}/v/{video}",
        "round": f"x/../{video}",
        "up": "../other/a.mp4",
        "absolute": "/etc/passwd",
        "sibling": f"{s3.uri}/v2/a.mp4",
        "bucket": "s3://another-bucket/v/a.mp4",
        "dots": f"{s3.uri}/v/../other/a.mp4",
        "web": "http://127.0.0.1/a.mp4",
        "file": "file:///etc/passwd",
        "pseudo": "concat:a.mp4|b.mp4",
        "gone": "no.mp4",
    }
    manifest = write_rows(
        tmp_path / "rows.json", [caption_row(name, video) for name, video in rows.items()]
    )
    out = tmp_path / "run"
    run_prune(manifest, out, f"{s3.uri}/v", thresholds__default="keep 1.0")
    reasons = by_sample(out, "reason")
    assert {name for name, reason in reasons.items() if reason == "forbidden"} == {
        "up", "absolute", "sibling", "bucket", "dots", "web", "file", "pseudo",
    }  # fmt: skip
    assert reasons["gone"] == "missing"
    assert reasons["inside"] == reasons["whole"] == reasons["round"]
    assert not any("/other/" in request.path for request in s3.requests)
    named = {"a": f"{s3.uri}/v/{video}", "b": "gone.mp4"}
    on_disk = write_rows(tmp_path / "disk.json", [caption_row(*each) for each in named.items()])
    run_prune(on_disk, tmp_path / "disk", videos.parent)
    assert by_sample(tmp_path / "disk", "reason") == {"a": "forbidden", "b": "missing"}
