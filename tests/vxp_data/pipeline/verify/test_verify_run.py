"""`verify` of a run directory: whatever is broken in it is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.chaos import make_media
from support.compared_runs import COMPARED
from support.runs import run_prune
from vxp_data.errors import UserError
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.verify.run import verify_run

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; its media lie beside it."""
    folder = tmp_path_factory.mktemp("whole")
    run_prune(make_media(folder / "media", copies=1), folder / "run")
    return folder / "run"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def problems(run: Path, *, media: bool = False) -> str:
    found = verify_run(open_run(run), media=media)
    assert found.num_problems >= len(found.problems)
    return "\n".join(found.problems)


def change(path: Path, column: str, row: int, value: Any) -> None:
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value(values[row]) if callable(value) else value
    index = table.schema.get_field_index(column)
    field = table.schema.field(index)
    pq.write_table(table.set_column(index, field, pa.array(values, field.type)), path)


def drop_first_row(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def repeat_first_row(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(0, 1), table]), path)


def only_part(run: Path) -> Path:
    (part,) = (run / "embeddings").iterdir()
    return part


def only_index(run: Path) -> Path:
    (index,) = (run / "part_index").iterdir()
    return index


def change_embedding(run: Path, change: Callable[[np.ndarray], None]) -> None:
    path = only_part(run)
    table = pq.read_table(path)
    index = table.schema.get_field_index("embedding")
    field = table.schema.field(index)
    values = table["embedding"].to_pylist()
    good = next(i for i, value in enumerate(values) if value is not None)
    num_frames = len(table["frame_index"][good])
    rows = np.frombuffer(values[good], np.float16).reshape(num_frames, -1).copy()
    change(rows)
    values = pa.array([*values[:good], rows.tobytes(), *values[good + 1 :]], type=field.type)
    pq.write_table(table.set_column(index, field, values), path)


def change_json(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


def test_a_whole_run_has_no_problems_and_all_of_it_was_looked_at(whole: Path) -> None:
    found = verify_run(open_run(whole), media=True)
    assert found.problems == []
    assert (found.num_samples, found.num_clips, found.num_embeddings) == (52, 26, 25)
    assert found.num_parts == len(list((whole / "embeddings").iterdir()))
    media = pq.read_table(whole / "media.parquet")["media_id"].to_pylist()
    assert found.num_hashed == sum(1 for media_id in media if media_id)


def double_row(rows: np.ndarray) -> None:
    rows[3] *= 2


def swap_a_frame(rows: np.ndarray) -> None:
    rows[0] = -rows[1]


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a sample twice": (
        lambda run: change(
            run / "decisions.parquet",
            "sample_id",
            1,
            pq.read_table(run / "decisions.parquet")["sample_id"][0].as_py(),
        ),
        r"decisions\.parquet: sample .* is there twice",
    ),
    "a decision lost": (lambda run: drop_first_row(run / "decisions.parquet"), "wanted {'sample_"),
    "a decision turned": (
        lambda run: change(run / "decisions.parquet", "decision", 0, _turned),
        "because of",
    ),
    "a score changed": (
        lambda run: change(run / "scores.parquet", "mean_pairwise", 4, lambda x: (x or 0) + 1e-6),
        r"mean_pairwise is .*, its embeddings give",
    ),
    "a decision's score changed": (
        lambda run: change(run / "decisions.parquet", "score", 0, lambda x: x + 1e-6),
        "its score and threshold give",
    ),
    "a decision's threshold changed": (
        lambda run: change(run / "decisions.parquet", "threshold", 0, lambda x: x + 1e-6),
        "its score and threshold give",
    ),
    "a clip lost": (lambda run: drop_first_row(run / "media.parquet"), "is missing"),
    "a clip twice": (lambda run: repeat_first_row(run / "media.parquet"), "is there 2 times"),
    "a clip of no sample": (
        lambda run: change(run / "media.parquet", "uri", 0, "/no/such.mp4"),
        "/no/such.mp4 is of no sample",
    ),
    "a frame without embedding": (
        lambda run: change(only_part(run), "frame_index", 0, lambda x: [*x, x[-1] + 1]),
        "38400 bytes of embeddings for 21 frames",
    ),
    "a norm": (lambda run: change_embedding(run, double_row), "has norm 2, not 1"),
    "an embedding changed": (lambda run: change_embedding(run, swap_a_frame), "embeddings give"),
    "a part lost": (lambda run: only_part(run).unlink(), "embeddings: .* has none"),
    "an index of something else": (
        lambda run: change(only_index(run), "row", 0, lambda _: 7),
        "part_index: what it says of part-.* is not what that holds",
    ),
    "a part cut": (
        lambda run: only_part(run).write_bytes(only_part(run).read_bytes()[:-20]),
        "cannot read .*embeddings/part-",
    ),
    "a kept row lost": (
        lambda run: (run / "kept.json").write_text(
            json.dumps(json.loads((run / "kept.json").read_text())[1:])
        ),
        r"kept\.json: row 0 is",
    ),
    "the dropped rows lost": (lambda run: (run / "dropped.json").unlink(), "dropped.json"),
    "a quarantined row lost": (
        lambda run: drop_first_row(run / "quarantine.parquet"),
        r"quarantine\.parquet: its rows",
    ),
    "a count": (
        lambda run: change_json(run, lambda r: r["decided"].update(num_kept=3)),
        "num_kept is 3, the decisions give 26",
    ),
    "rows that were read and not decided": (
        lambda run: change_json(run, lambda r: r["manifests"].update(rows=53)),
        "53 rows were read, 52 are decided",
    ),
    "a subset's count": (
        lambda run: change_json(run, lambda r: r["decided"]["subsets"][0].update(pruned=1)),
        "caption: pruned is 1, decisions give 12",
    ),
    "another threshold": (
        lambda run: change_json(
            run, lambda r: r["config"].update(thresholds={"default": "keep 0.4"})
        ),
        "its score and threshold give",
    ),
    "the samples lost": (lambda run: (run / "samples.parquet").unlink(), "cannot read"),
}


def _turned(outcome: str) -> str:
    return "prune" if outcome == "keep" else "keep"


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_named(run: Path, what: str) -> None:
    damage, wanted = BROKEN[what]
    damage(run)
    assert re.search(wanted, problems(run)), problems(run)


def test_a_media_file_that_changed_or_went_is_found_by_its_digest(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole.parent / "media", tmp_path / "media")
    out = tmp_path / "mine"
    run_prune(tmp_path / "media" / "annotations.json", out)
    ball = tmp_path / "media" / "videos" / "fixed_ball.mp4"
    times = (ball.stat().st_atime_ns, ball.stat().st_mtime_ns)
    data = bytearray(ball.read_bytes())
    data[-100] ^= 1
    ball.write_bytes(data)
    os.utime(ball, ns=times)  # size and time are the same: only its bytes tell
    (tmp_path / "media" / "videos" / "rings.mp4").unlink()
    assert problems(out) == ""
    found = problems(out, media=True).splitlines()
    assert len(found) == 2
    assert any("fixed_ball.mp4: its content was sha256:" in line for line in found)
    assert any("rings.mp4" in line and "No such file" in line for line in found)


def test_the_command_tells_runs_from_shards_and_from_neither(run: Path, tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("vxp-data"))

    def verify(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "verify", *words], capture_output=True, text=True, timeout=120, check=False
        )

    done = verify(str(run))
    assert (done.returncode, done.stderr) == (0, "")
    assert "52 rows, 26 clips, 25 embeddings" in done.stdout
    (run / "kept.json").unlink()
    done = verify(str(run))
    assert done.returncode == 2
    assert "is not whole, 1 problems" in done.stderr
    done = verify(str(tmp_path))
    assert done.returncode == 2
    assert "holds neither a finished run" in done.stderr


def test_a_run_that_was_stopped_while_it_was_decided_is_not_finished(run: Path) -> None:
    opened = open_run(run)
    opened.begin_change(opened.read_run(), "vxp-data decide")
    with pytest.raises(UserError, match="`vxp-data decide` was stopped in it"):
        verify_run(opened, media=False)
    redecide(run, measure=None, thresholds={}, default=None)
    assert problems(run) == ""


def test_a_damaged_part_is_named_by_prune_too_and_made_again_when_it_is_removed(
    whole: Path, run: Path
) -> None:
    manifest = whole.parent / "media" / "annotations.json"
    part = only_part(run)
    num_clips = pq.read_table(part).num_rows
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"cannot read {part}"):
        run_prune(manifest, run)
    part.unlink()
    assert run_prune(manifest, run).totals.clips == num_clips
    assert problems(run) == ""
    for name in COMPARED:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
