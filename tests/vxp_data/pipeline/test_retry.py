"""`retry`: what failed is tried again, otherwise, and counts as if it had succeeded at first."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.chaos import make_media
from support.commands import vxp_data_here
from support.media_watch import opened_files
from support.runs import by_sample, caption_row, run_prune, write_rows
from vxp_data.commands.runs import why_none
from vxp_data.errors import UserError
from vxp_data.pipeline.prune import Observer
from vxp_data.pipeline.retry import RETRIABLE, RETRIED, RetryResult, retry
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.records import QUARANTINE_REASONS, Reason

pytestmark = pytest.mark.usefixtures("engine")

FAILING = {"hangs": "timeout", "crashes": "crashed", "killed": "out_of_memory"}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos at which the decoder 'misbehaving' fails by their names, and two that are fine."""
    folder = tmp_path_factory.mktemp("media")
    drawn = make_media(tmp_path_factory.mktemp("drawn"), copies=1).parent / "videos"
    for name, source in {**dict.fromkeys(FAILING, "rings"), "fine": "cuts_fast"}.items():
        shutil.copyfile(drawn / f"{source}.mp4", folder / f"{name}.mp4")
    shutil.copyfile(drawn / "cut_download.mp4", folder / "cut.mp4")
    return folder


@pytest.fixture(scope="module")
def failed_run(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [caption_row(path.stem, path.name) for path in sorted(media.iterdir())]
    run_prune(
        write_rows(folder / "rows.json", rows),
        folder / "run",
        media,
        decode__decoder="misbehaving",
        decode__fallback=None,
        decode__timeout_s=6.0,
        decode__memory_mib=512,
        thresholds__default="keep 1.0",
    )
    assert by_sample(folder / "run", "reason") == {
        **FAILING,
        "cut": "truncated",
        "fine": "within_threshold",
    }
    return folder / "run"


@pytest.fixture
def run(failed_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(failed_run, tmp_path / "run")
    return tmp_path / "run"


def in_one_part(run: Path) -> None:
    """Put all embeddings into a part that comes before all others."""
    parts = sorted((run / "embeddings").iterdir())
    rows = pa.concat_tables(pq.read_table(part) for part in parts)
    for part in parts:
        part.unlink()
    pq.write_table(rows, run / "embeddings" / "part-000.parquet")


def try_again(run: Path, reasons: frozenset[Reason] = RETRIED, **settings: Any) -> RetryResult:
    overrides = [(key.replace("__", "."), value, "test") for key, value in settings.items()]
    return retry(run, overrides, reasons, Observer())


def test_another_decoder_moves_what_succeeds_and_reads_nothing_else(run: Path, media: Path) -> None:
    in_one_part(run)  # what failed stays in it, and must not count any more
    with opened_files(media) as opened:
        result = try_again(run, decode__decoder="pyav", decode__fallback=None)
    assert opened == {f"{name}.mp4" for name in FAILING}
    assert result.tried == result.recovered == dict.fromkeys(FAILING.values(), 1)
    assert by_sample(run, "decision") == {
        **dict.fromkeys(FAILING, "keep"),
        "cut": "quarantine",
        "fine": "keep",
    }
    assert {row["id"] for row in json.loads((run / "kept.json").read_text())} == {*FAILING, "fine"}
    record = json.loads((run / "run.json").read_text())
    assert record["decided"]["num_quarantined"] == 1
    assert record["config"]["decode"]["decoder"] == "misbehaving"  # the run's settings stay
    (tried,) = record["retries"]
    assert (tried["decoder"], tried["files_read"]) == ("pyav", 3)
    assert tried["recovered"] == dict.fromkeys(FAILING.values(), 1)
    assert verify_run(open_run(run), media=True).problems == []
    with opened_files(media) as opened:
        assert try_again(run).tried == {}
    assert opened == set()


def test_what_was_moved_stays_when_the_first_command_runs_again(
    failed_run: Path, run: Path, media: Path
) -> None:
    try_again(run, decode__decoder="pyav", decode__fallback=None)
    before = {path.name: path.read_bytes() for path in run.glob("*.parquet")}
    with opened_files(media) as opened:
        run_prune(
            failed_run.parent / "rows.json",
            run,
            media,
            decode__decoder="misbehaving",
            decode__fallback=None,
            decode__timeout_s=6.0,
            decode__memory_mib=512,
            thresholds__default="keep 1.0",
        )
    assert opened == set()
    assert {path.name: path.read_bytes() for path in run.glob("*.parquet")} == before


def test_only_the_reasons_asked_for_are_tried_and_what_fails_again_stays(
    run: Path, media: Path
) -> None:
    with opened_files(media) as opened:
        result = try_again(
            run, frozenset({Reason.TRUNCATED}), decode__decoder="pyav", decode__fallback=None
        )
    assert opened == {"cut.mp4"}
    assert (result.tried, result.recovered) == ({"truncated": 1}, {})
    assert by_sample(run, "reason")["cut"] == "truncated"
    assert verify_run(open_run(run), media=False).problems == []


def test_limits_are_wider_by_default_and_the_run_s_decoder_comes_second(run: Path) -> None:
    result = try_again(run, frozenset({Reason.UNREADABLE}), decode__decoder="pyav")
    assert (result.timeout_s, result.memory_mib, result.decoder) == (24.0, 1024, "pyav")
    assert result.tried == {}


def test_it_says_why_it_tries_nothing(run: Path) -> None:
    said = vxp_data_here("retry", run, "--reason", "encrypted").stdout
    failed = "1 crashed, 1 out_of_memory, 1 timeout, 1 truncated"
    assert f"what failed is {failed}, and this retry takes encrypted." in said
    assert "--reason crashed --reason out_of_memory --reason timeout --reason truncated" in said
    assert "Tried again" not in said


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ({}, "no video or image of the run failed"),
        ({"outside_clip": 2}, "what failed is 2 outside_clip, .* put them right, and prune again"),
        ({"outside_clip": 2, "missing": 1}, "1 missing, 2 outside_clip.* --reason missing tries"),
    ],
)
def test_what_is_said_fits_what_failed(failed: dict[str, int], words: str) -> None:
    assert re.search(words, why_none(Counter(failed), ("timeout",)))


def test_settings_that_would_make_another_run_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another setting is another run"):
        try_again(run, frames__num_frames=5)
    with pytest.raises(UserError, match="holds no finished run"):
        try_again(tmp_path / "nothing")


def test_frames_that_would_be_selected_otherwise_are_not_mixed_with_the_runs(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "sampler": "of another version"}))
    with pytest.raises(UserError, match=r"other frames would be selected .* selection version 2"):
        try_again(run)


def test_every_reason_is_either_worth_trying_or_of_the_row() -> None:
    assert RETRIED < RETRIABLE <= QUARANTINE_REASONS
    of_the_row = {Reason.BAD_ROW, Reason.FORBIDDEN, Reason.OUTSIDE_CLIP, Reason.SOURCE_CHANGED}
    assert of_the_row == QUARANTINE_REASONS - RETRIABLE
