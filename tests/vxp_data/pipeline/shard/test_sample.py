"""`vxp-data sample`: plans of a finished run, hand-computed and drawn again from what is stored."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from support.runs import caption_row, run_prune, table, write_rows
from vxp_data.core.frame_plan_counts import PlanCounts, duration_bins, frames_bins
from vxp_data.core.sampling_plans import SamplingRule, draw_plan
from vxp_data.core.thresholds import parse_keep
from vxp_data.core.timeline import unpack_timeline
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.shard.sample import Sampled, sample_run
from vxp_data.report.sampling import sampling_figure, sampling_table

VXP_DATA = str(Path(sys.executable).with_name("vxp-data"))
# 25 frames a second for 1.2 s, then 2.5 a second: index and time part ways.
_MS = Fraction(1, 1000)
VFR_MS = [40 * i if i < 30 else 1200 + 400 * (i - 30) for i in range(60)]


def encode(path: Path, pts_ms: list[int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = _MS
        for i, pts in enumerate(pts_ms):
            image = np.full((48, 64, 3), 4 * i % 256, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts, _MS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Path:
    """A finished run of every kind of row; all that can be used are kept."""
    del engine
    root = tmp_path_factory.mktemp("sample")
    encode(root / "vfr.mp4", VFR_MS)
    encode(root / "minute.mp4", [100 * i for i in range(600)])
    encode(root / "single.mp4", [0])
    av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24").to_image().save(
        root / "still.jpg"
    )
    still = caption_row("image", "")
    del still["video"]
    rows = [
        caption_row("vfr", "vfr.mp4"),
        caption_row("part", "vfr.mp4", clip_start_s=2.0, clip_end_s=4.0),
        caption_row("gone", "gone.mp4"),
        {**still, "image": "still.jpg"},
        {"id": "talk", "conversations": [{"from": "human", "value": "Hello"}]},
        caption_row("single", "single.mp4"),
        caption_row("minute", "minute.mp4"),
        caption_row("again", "minute.mp4"),
    ]
    run_prune(write_rows(root / "rows.json", rows), root / "run", thresholds__default="keep 1.0")
    return root / "run"


@pytest.fixture
def run(pruned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pruned, tmp_path / "run"))


def sample(out: Path, num_epochs: int = 1, **rule: Any) -> Sampled:
    overrides = [(f"sampling.{key}", value, "test") for key, value in rule.items()]
    epochs = ("shard.num_epochs", num_epochs, "test")
    return sample_run(out, [*overrides, epochs], sampling_figure)[1]


def plans(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["sample_id"].split("/", 1)[1], row["epoch"]): row for row in table(out, "plans")}


def test_a_frame_a_second_by_hand(run: Path) -> None:
    sampled = sample(run, policy="fixed_fps", fps=1.0)
    found = {name: plan["frame_index"] for (name, _), plan in plans(run).items()}
    # At 2 s the frame of 2.0 s, at 3 s that of 2.8 s: after 1.2 s there is one every 0.4 s.
    vfr = [0, 25, 32, 34, 37, 39, 42, 44, 47, 49, 52, 54, 57]
    assert found == {
        "vfr": vfr,
        "part": [32, 34],
        "image": [0],
        "single": [0],
        "minute": list(range(0, 600, 10)),
        "again": list(range(0, 600, 10)),
    }
    assert plans(run)["part", 0]["time_s"] == pytest.approx([2.0, 2.8])
    assert plans(run)["part", 0]["duration_s"] == 2.0
    assert (sampled.num_rows, sampled.num_text_rows, sampled.num_frames) == (6, 1, 137)


def test_rows_stand_in_the_samples_order_epoch_after_epoch(run: Path) -> None:
    sample(run, 3)
    names = ["vfr", "part", "image", "single", "minute", "again"]
    assert list(plans(run)) == [(name, epoch) for name in names for epoch in range(3)]
    media = {row["sample_id"].split("/", 1)[1]: row["media_id"] for row in table(run, "decisions")}
    assert all(plan["media_id"] == media[name] for (name, _), plan in plans(run).items())


def test_stored_plans_are_those_drawn_from_the_stored_rule_and_timeline(run: Path) -> None:
    sample(run, 4, seed=11)
    stored = pq.read_schema(run / "plans.parquet").metadata[b"sampling"]
    rule = SamplingRule.from_dict(json.loads(stored))
    assert rule == SamplingRule(seed=11)
    (media,) = [row for row in table(run, "media") if row["uri"].endswith("minute.mp4")]
    drawn = set()
    for name in ("minute", "again"):
        for epoch in range(4):
            row = plans(run)[name, epoch]
            plan = draw_plan(
                rule,
                sample_id=row["sample_id"],
                epoch=epoch,
                time_s_N=unpack_timeline(media["timeline"]),
                duration_s=media["duration_s"],
                source_fps=media["fps"],
            )
            assert row["frame_index"] == plan.frame_index_F.tolist()
            assert row["time_s"] == plan.time_s_F.tolist()
            assert (row["fps"], row["num_frames"], row["seed"]) == (plan.fps, len(plan), 11)
            drawn.add(plan.fps)
    assert len(drawn) > 1  # rows about one video, and epochs, differ


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    def written() -> list[bytes]:
        sample(run, 2)
        return [(run / name).read_bytes() for name in ("plans.parquet", "sampling.png", "run.json")]

    assert written() == written()


def test_run_json_says_what_was_planned(run: Path) -> None:
    sample(run, 2, policy="uniform_n", num_frames=5)
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["sampling"]["policy"] == "uniform_n"
    assert record["config"]["shard"]["num_epochs"] == 2
    assert record["sampled"] == {
        "num_epochs": 2,
        "num_rows": 6,
        "num_text_rows": 1,
        "num_frames": 2 * (5 + 5 + 1 + 1 + 5 + 5),
    }


def test_deciding_again_takes_away_the_plans_of_other_rows(run: Path) -> None:
    sample(run)
    redecide(run, measure=None, thresholds={}, default=parse_keep("0.5"))
    assert not (run / "plans.parquet").exists()
    assert not (run / "sampling.png").exists()
    assert "sampled" not in json.loads((run / "run.json").read_text())
    kept = {row["sample_id"] for row in table(run, "decisions") if row["decision"] == "keep"}
    sample(run)
    assert {row["sample_id"] for row in table(run, "plans")} < kept  # but for the text


def test_only_videos_are_counted_and_each_policy_once(run: Path) -> None:
    counts = sample(run).counts
    assert list(counts.frames_R_of) == ["variable", "fixed_fps"]
    assert counts.frames_R_of["fixed_fps"].tolist() == [13, 2, 1, 60, 60]
    assert counts.duration_s_R.round(2).tolist() == [12.84, 2.0, 0.04, 59.94, 59.94]
    assert list(sample(run, policy="fixed_fps").counts.frames_R_of) == ["fixed_fps", "variable"]
    assert list(sample(run, policy="fine_tune_240").counts.frames_R_of) == [
        "fine_tune_240",
        "variable",
        "fixed_fps",
    ]


COUNTS = PlanCounts(
    duration_s_R=np.array([0.0, 5.0, 5.1, 180.0, 180.1, 4000.0]),
    frames_R_of={
        "variable": np.array([1, 10, 20, 360, 181, 360]),
        "fixed_fps": np.array([1, 5, 6, 180, 181, 360]),
    },
    max_frames=360,
)


def test_bins_hold_every_row_once_and_borders_belong_below() -> None:
    by_duration = duration_bins(COUNTS)
    assert [(b.low_s, b.num_rows) for b in by_duration if b.num_rows] == [
        (0, 2), (5, 1), (120, 1), (180, 1), (3600, 1),
    ]  # fmt: skip
    assert by_duration[0].mean_frames_of == {"variable": 5.5, "fixed_fps": 3.0}
    by_frames = frames_bins(COUNTS)
    assert {(b.low, b.high): b.num_rows_of for b in by_frames if any(b.num_rows_of.values())} == {
        (1, 1): {"variable": 1, "fixed_fps": 1},
        (2, 8): {"variable": 0, "fixed_fps": 2},
        (9, 16): {"variable": 1, "fixed_fps": 0},
        (17, 32): {"variable": 1, "fixed_fps": 0},
        (129, 256): {"variable": 1, "fixed_fps": 2},
        (360, 360): {"variable": 2, "fixed_fps": 1},
    }


@pytest.mark.parametrize("max_frames", [1, 2, 8, 9, 257, 360, 5000])
def test_bins_cover_one_to_the_cap_without_a_gap(max_frames: int) -> None:
    counts = PlanCounts(duration_s_R=np.zeros(0), frames_R_of={}, max_frames=max_frames)
    assert duration_bins(counts) == []
    bins = frames_bins(counts)
    covered = [n for b in bins for n in range(b.low, b.high + 1)]
    assert covered == list(range(1, max_frames + 1))


def test_the_table_shows_the_bins() -> None:
    lines = [line.split() for line in sampling_table(COUNTS).splitlines()]
    assert ["0", "-", "5", "s", "2", "5.5", "3.0"] in lines
    assert ["15", "-", "30", "s", "0", "-", "-"] in lines
    assert [">", "3600", "s", "1", "360.0", "360.0"] in lines
    assert ["all", "6", "155.3", "122.2"] in lines
    assert ["129", "-", "256", "1", "2"] in lines


def test_the_figure_is_an_image_and_the_same_each_time() -> None:
    figure = sampling_figure(COUNTS)
    assert figure == sampling_figure(COUNTS)
    with av.open(io.BytesIO(figure)) as container:
        pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert pixels.shape == (462, 1430, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    nothing = {"variable": np.zeros(0, dtype=np.int64)}
    empty = PlanCounts(duration_s_R=np.zeros(0), frames_R_of=nothing, max_frames=360)
    assert sampling_figure(empty).startswith(b"\x89PNG")


def vxp_data(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VXP_DATA, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_the_command_plans_and_prints_the_distribution(run: Path) -> None:
    done = vxp_data("sample", run, "--set", "sampling.policy=fine_tune_240", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "frames, fine_tune_240  frames, variable  frames, fixed_fps" in done.stdout
    assert "6 rows x 2 epochs planned: 274 frames. 1 rows are text only." in done.stdout
    assert len(table(run, "plans")) == 12
    again = vxp_data("sample", run)  # the run remembers its settings
    assert again.stdout == done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "shard.num_epochs: Input should be greater than or equal to 1"),
        (["--set", "sampling.policy=varable"], "Did you mean 'variable'?"),
        (["--set", "frames.num_frames=8"], "settings of the section sampling only"),
        (["--set", "sampling.fps=-1"], "sampling.fps: got -1.0, wanted above 0"),
    ],
)
def test_a_wrong_setting_ends_with_status_2_and_writes_nothing(
    run: Path, arguments: list[str], message: str
) -> None:
    before = (run / "run.json").read_bytes()
    done = vxp_data("sample", run, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "plans.parquet").exists()
    assert (run / "run.json").read_bytes() == before


def test_no_run_is_said_so(tmp_path: Path) -> None:
    done = vxp_data("sample", tmp_path)
    assert done.returncode == 2
    assert "holds no finished run" in done.stderr
