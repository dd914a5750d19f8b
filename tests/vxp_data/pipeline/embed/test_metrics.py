"""What is measured of a run while it embeds, where that lies, and who else is shown it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.runs import caption_row, run_prune, table, write_rows
from support.s3 import Bucket
from vxp_data.engines.base import Activity, NodeActivity
from vxp_data.errors import UserError
from vxp_data.pipeline.embed.job import EmbedTotals
from vxp_data.pipeline.embed.metrics import RunMetrics, bound_by, figures_of, run_metrics
from vxp_data.pipeline.embed.metrics_endpoint import metrics_endpoint
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.run_dir.metrics_segments import MetricsSegments, read_last_line
from vxp_data.storage.folder import open_folder

HERE = NodeActivity(name="here", num_cpus=2.0, num_gpus=0.0, decoders=2, encoders=0)


class QuietEngine:
    """Does nothing, and keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, float]] = []

    def activity(self) -> Activity:
        return Activity(nodes=(HERE,), clips_waiting=3, decoders_paused=1)

    def publish(self, figures: dict[str, float]) -> None:
        self.shown.append(dict(figures))


def lines_in(folder: Path) -> list[list[dict[str, Any]]]:
    """Every line, segment by segment."""
    return [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.iterdir())
    ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of three good videos and one that is none."""
    from demo_videos import make_videos

    folder = tmp_path_factory.mktemp("demo")
    rows = json.loads(make_videos(folder).read_text(encoding="utf-8"))
    names = sorted({row["video"] for row in rows if "cut_" not in row["video"]})[:3]
    (folder / "bad.mp4").write_bytes(b"no video")
    rows = [caption_row(str(i), name) for i, name in enumerate([*names, "bad.mp4"])]
    return write_rows(folder / "few.json", rows)


@pytest.mark.usefixtures("engine")
def test_a_run_leaves_what_was_measured_and_the_next_one_that_embeds_clears_it(
    demo: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run_prune(demo, run)
    (segment,) = lines_in(run / "metrics")
    last = segment[-1]
    assert [line["state"] for line in segment] == ["embedding"] * (len(segment) - 1) + ["embedded"]
    assert last["clips"] == {"todo": 4, "before": 0, "done": 4, "failed": 1}
    assert last["quarantine"] == {table(run, "quarantine")[0]["reason"]: 1}
    assert last["frames"] == sum(
        len(row["time_s"]) for row in table(run, "media") if not row["reason"]
    )
    timings = json.loads((run / "run.json").read_text())["timings"]
    assert last["stages"]["decode"]["cpu_s"] == timings["decode_cpu_s"] > 0
    seconds = last["stages"]["embed"]["cpu_s"] + last["stages"]["write"]["cpu_s"]
    assert seconds == pytest.approx(timings["embed_cpu_s"], abs=0.002)
    assert last["stages"]["write"]["wall_s"] > 0

    run_prune(demo, run)
    assert lines_in(run / "metrics") == [segment], "nothing was embedded"
    run_prune(demo, run, frames__num_frames=4)
    (other,) = lines_in(run / "metrics")
    assert other[-1]["frames"] == 12


def test_a_stopped_run_s_segments_stay_and_an_embedded_one_s_go(tmp_path: Path) -> None:
    folder = open_folder(tmp_path).child("metrics")
    for state in ("embedding", "stopped", "embedded"):
        MetricsSegments(folder).write({"state": state})
    assert [line["state"] for (line,) in lines_in(tmp_path / "metrics")] == [
        "embedding", "stopped", "embedded"
    ]  # fmt: skip
    MetricsSegments(folder)
    assert lines_in(tmp_path / "metrics") == []


def test_the_last_whole_line_is_read(tmp_path: Path) -> None:
    folder = open_folder(tmp_path).child("metrics")
    assert read_last_line(folder) is None
    segments = MetricsSegments(folder)
    segments.write({"state": "embedding", "n": 1})
    segments.write({"state": "embedding", "n": 2})
    (path,) = (tmp_path / "metrics").iterdir()
    with path.open("a") as file:
        file.write('{"state": "embedded", "n"')  # killed while it wrote
    assert read_last_line(folder) == {"state": "embedding", "n": 2}
    path.with_name("9.jsonl").write_text("")
    assert read_last_line(folder) == {"state": "embedding", "n": 2}


def test_in_a_store_a_segment_is_put_whole_until_another_begins(s3: Bucket) -> None:
    folder = open_folder(f"{s3.uri}/run/metrics")
    segments = MetricsSegments(folder)
    for number in range(201):
        segments.write({"state": "embedding", "n": number})
    keys = s3.listing("run/metrics/")
    assert [len(s3.get(key).splitlines()) for key in keys] == [200, 1]
    assert read_last_line(folder) == {"state": "embedding", "n": 200}


def test_lines_come_though_nothing_is_heard_and_a_failing_disk_ends_nothing(tmp_path: Path) -> None:
    engine = QuietEngine()
    (tmp_path / "metrics").write_text("in the way")
    run = open_run(tmp_path)
    metrics = RunMetrics(run, engine, num_clips=9, num_before=1, num_files=9, every_s=0.01)
    metrics.start()
    until_s = time.monotonic() + 20
    while len(engine.shown) < 5 and time.monotonic() < until_s:
        time.sleep(0.01)
    metrics.heard(EmbedTotals(clips=9))
    metrics.end("embedded")
    assert len(engine.shown) >= 5
    assert engine.shown[0]["vxp_clips_done"] == 0
    assert engine.shown[-1]["vxp_clips_done"] == 9


@pytest.mark.parametrize(
    ("decoders", "encoders", "paused", "busy", "bound"),
    [
        (4, 0, 0, None, "decoding"),
        (4, 2, 0, 0.99, "encoder"),
        (4, 2, 0, 0.5, "decoding"),
        (4, 2, 2, 0.5, "encoder"),
        (4, 2, 1, None, None),
        (4, 2, None, 0.9, "encoder"),
    ],
)
def test_what_a_run_is_bound_by(
    decoders: int, encoders: int, paused: int | None, busy: float | None, bound: str | None
) -> None:
    totals = EmbedTotals(clips=1, decode_workers=decoders, embed_workers=encoders)
    assert bound_by(totals, Activity(nodes=(), decoders_paused=paused), busy) == bound
    assert bound_by(EmbedTotals(), Activity(nodes=(), decoders_paused=paused), busy) is None


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[RunMetrics]:
    with run_metrics(
        open_run(tmp_path), QuietEngine(), num_clips=9, num_before=0, num_files=9, port=None
    ) as metrics:
        yield metrics


def test_the_endpoint_shows_the_latest_line_as_prometheus_reads_it(measured: RunMetrics) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    while not measured.figures():
        time.sleep(0.01)
    with metrics_endpoint(0, measured.figures) as port:
        where = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(where, timeout=10) as answer:
            text = answer.read().decode()
        with (
            pytest.raises(UserError, match=f"cluster.metrics_port is {port}.*another"),
            metrics_endpoint(port, measured.figures),
        ):
            pass
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found == measured.figures()
    assert found["vxp_clips_todo"] == 9
    assert found["vxp_queue_clips_waiting"] == 3
    assert "vxp_encoder_busy" not in found, "not known yet"


def test_reasons_become_figures_of_their_own() -> None:
    totals = EmbedTotals(clips=2, failed=1)
    totals.reasons["timeout"] += 1
    line = {
        "clips": {"done": 2}, "queue": {}, "stages": {}, "quarantine": dict(totals.reasons),
        "workers": {"decode": 1, "embed": 0}, "nodes": [], "files_todo": 2, "frames": 20,
        "bytes_fetched": 0, "clips_per_s": None, "encoder_busy": None,
    }  # fmt: skip
    assert figures_of(line)["vxp_quarantine_timeout"] == 1


@pytest.mark.usefixtures("ray_session")
def test_ray_shows_a_run_s_figures_at_its_own_endpoint(demo: Path, tmp_path: Path) -> None:
    import ray

    run_prune(demo, tmp_path / "run", cluster__engine="ray")
    (node,) = (node for node in ray.nodes() if node["Alive"])
    where = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    until_s, values = time.monotonic() + 60, [0.0]
    while values != [4.0] and time.monotonic() < until_s:
        with urllib.request.urlopen(where, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        told = [line for line in lines if line.startswith("ray_vxp_clips_done{")]
        values = [float(line.rpartition(" ")[2]) for line in told]
        time.sleep(0.5)
    assert values == [4.0]
    (segment,) = lines_in(tmp_path / "run" / "metrics")
    (there,) = segment[-1]["nodes"]
    assert there["name"].endswith(node["NodeID"][:8])
    assert there["num_cpus"] == 2
