"""What prune and doctor say of manifests, and when they stop before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import vxp_data
from support.flat_videos import GREEN, RED, write_flat_video
from support.runs import caption_row, run_prune, write_rows
from vxp_data.errors import UserError
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.samples import TaskRules
from vxp_data.pipeline.embed.preflight import Check, Verdict
from vxp_data.pipeline.embed.preflight_manifests import check_manifests
from vxp_data.settings.prune import load_config


@pytest.fixture
def two_colours(tmp_path: Path) -> Path:
    """A video, in a folder of its own."""
    folder = tmp_path / "videos"
    folder.mkdir()
    return write_flat_video(folder / "a.mp4", num_frames=6, rgb=RED, last_rgb=GREEN)


def checked(path: Path, max_bad_share: float = 0.05, **columns: str) -> Check:
    datasets = resolve_datasets([path], path.parent, columns=columns)
    (check,), _ = check_manifests(datasets, TaskRules(), max_bad_share)
    return check


def rows_of(num_good: int, num_bad: int, **more: object) -> list[dict[str, object]]:
    good = [caption_row(f"g{i}", f"{i}.mp4", source="x") for i in range(num_good)]
    return good + [{"id": f"b{i}", "video": i, **more} for i in range(num_bad)]


def test_a_manifest_is_told_by_what_its_rows_hold(tmp_path: Path) -> None:
    rows = [
        *rows_of(2, 1),
        {"image": "a.png", "question": "Who?", "answer": "He"},
        {"question": "Why?", "answer": "So."},
        {"video": "b.mp4", "caption": "A man."},
        {"video": "c.mp4", "title": "A long day"},
        {"video": "../c.mp4", "caption": "A man."},
        {"video": "d.mp4"},
    ]
    check = checked(write_rows(tmp_path / "a.json", rows), 1)
    assert check.verdict is Verdict.WARNING
    lines = check.message.split("\n")
    assert lines[0] == (
        "9 rows: 4 with a video, 1 with an image, 1 of text only, 2 without a question, 1 without "
        "an answer, 3 that cannot be used"
    )
    assert lines[1] == "  columns that are not read: source (2), title (1)"
    assert len(lines) == 5
    assert all(line.startswith("  1 ") for line in lines[2:])
    told = "\n".join(sorted(lines[2:]))
    for words in (
        "first row 2: video is a n",
        "words are in column 'title'",
        "'../c.mp4' lies out",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("num_good", "num_bad", "verdict"),
    [
        (20, 0, Verdict.OK),
        (19, 1, Verdict.WARNING),
        (18, 1, Verdict.FAILED),
        (0, 3, Verdict.FAILED),
    ],
)
def test_more_than_the_share_allowed_is_a_failure(
    num_good: int, num_bad: int, verdict: Verdict, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "a.json", rows_of(num_good, num_bad))
    check = checked(path)
    assert check.verdict is verdict
    if verdict is Verdict.FAILED and num_good:
        assert "5.3% of the rows, and manifest.max_bad_share is 5.0%" in str(check)
        assert "--set manifest.max_bad_share=0.06" in str(check)
        assert checked(path, 0.06).verdict is Verdict.WARNING
    elif verdict is Verdict.FAILED:
        assert "not one row can be used" in str(check)
        assert checked(path, 1).verdict is Verdict.FAILED


def test_a_column_that_no_row_has_is_a_failure(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.json", [{"clip": "a.mp4", "said": "A man."}])
    assert checked(path, video="clip", caption="said").verdict is Verdict.OK
    check = checked(path, video="clp", caption="said")
    assert check.verdict is Verdict.FAILED
    assert "no row has a column for video=clp" in check.message
    assert "the rows have clip (1), said (1)" in str(check)


def test_prune_stops_before_it_decodes_and_leaves_an_earlier_run(
    tmp_path: Path, two_colours: Path
) -> None:
    good = [caption_row("g", two_colours.name)]
    manifest = write_rows(tmp_path / "rows.json", good)
    out = tmp_path / "run"
    run_prune(manifest, out, two_colours.parent)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    write_rows(manifest, [*good, {"id": "b", "video": 3}])
    with pytest.raises(UserError, match=r"50\.0% of the rows.*max_bad_share=0\.51"):
        run_prune(manifest, out, two_colours.parent, manifest__max_bad_share=0.4)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_the_command_tells_manifests_and_the_first_message_of_each_reason(
    tmp_path: Path, two_colours: Path
) -> None:
    rows = [
        {"clip": two_colours.name, "ask": "What is there?", "gt": "Two colours"},
        {"clip": 3, "ask": "Why?", "gt": "So"},
        {"clip": "gone.mp4", "ask": "Why?", "gt": "So"},
    ]
    path = two_colours.parent / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--out", tmp_path / "run", "--encoder", "thumbnail", "--keep", "1.0")
    columns = ("--columns", "video=clip,question=ask,answer=gt")
    stopped = vxp_data("prune", path, *options)
    assert stopped.returncode == 2
    assert "not one row can be used" in stopped.stderr
    assert "--columns video=COLUMN" in stopped.stderr
    shown = vxp_data("doctor", path, *options[:4], *columns)
    assert shown.returncode == 2
    assert "FAILED   manifest rows: 3 rows: 2 with a video" in shown.stdout
    done = vxp_data("prune", path, *options, *columns, "--set", "manifest.max_bad_share=0.5")
    assert done.returncode == 0, done.stderr
    assert "manifest rows: 3 rows: 2 with a video, 0 with an image" in done.stderr
    assert "first: line 2: video is a number, wanted the path of a file" in done.stdout
    assert "gone.mp4" in done.stdout.split("missing")[1]
    kept = (tmp_path / "run/kept.jsonl").read_text()
    assert kept == json.dumps(rows[0]) + "\n"


def test_columns_are_a_setting_and_unknown_kinds_are_refused() -> None:
    given = [("manifest.columns.video", "clip", "test")]
    assert load_config(None, given).config.manifest.columns == {"video": "clip"}
    with pytest.raises(UserError, match=r"unknown kind of column 'vide'.*'video'"):
        load_config(None, [("manifest.columns.vide", "clip", "test")])
