"""The whole job with manifests, videos and run directory in a real S3 server."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runs import run_prune, write_rows
from s3 import Bucket
from vxp_data.core.thresholds import parse_keep
from vxp_data.errors import UserError
from vxp_data.pipeline.redecide import redecide

pytestmark = pytest.mark.usefixtures("ray_session")

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
    sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
    try:
        manifest: Path = importlib.import_module("demo_videos").make_videos(folder)
    finally:
        sys.path.pop(0)
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
