"""A package that others wrote: installed, it is used through the commands as our own parts are."""

import shutil

import numpy as np
import pytest

from support.commands import vxp_data
from support.flat_videos import BLUE, GREY, RED, write_flat_video
from support.runs import by_sample, table
from support.stored_runs import StoredClip, decide, stored_run
from support.third_party import install_third_party
from vxp_data.errors import UserError
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.verify.run import verify_run

SMALL = ("--set", "cluster.num_cpus=1")
ROWS = {
    "still": b"still|still.mp4|It stays | as it is.",
    "turning": b"turning|turning.mp4|It turns blue.",
    "fading": b"fading|fading.mp4|It turns grey.",
    "wide": b"wide|wide.mp4|Wide.",
    "tall": b"tall|tall.mp4|Tall.",
    "gone": b"gone|gone.mp4|Nobody has it.",
    "broken": b"broken|still.mp4",
}


def run(*arguments):
    done = vxp_data(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path, monkeypatch):
    install_third_party(tmp_path / "installed", monkeypatch)
    made = {
        "still": {},
        "turning": {"last_rgb": BLUE},
        "fading": {"last_rgb": GREY},
        "wide": {"size_px": (96, 32)},
        "tall": {"size_px": (32, 96)},
    }
    for name, how in made.items():
        write_flat_video(tmp_path / f"{name}.mp4", num_frames=10, rgb=RED, **how)
    (tmp_path / "clips.piped").write_bytes(b"\n".join(ROWS.values()) + b"\n")
    return tmp_path


def test_its_parts_work_in_prune_decide_plan_report_and_verify(folder):
    out = folder / "run"
    pruned = run(
        "prune", folder / "clips.piped", "--out", out, "--encoder", "mean_colour", "--measure",
        "first_last", "--threshold", "at_least:1", "--set", "filters.shape.max=2",
        "--set", "manifest.max_bad_share=0.2", *SMALL,
    )  # fmt: skip
    assert "     1  filter:too_wide" in pruned
    assert "Thresholds are on first_last." in pruned
    assert dict(zip(ROWS, (row["reason"] for row in table(out, "decisions")), strict=True)) == {
        "still": "redundant",
        "turning": "within_threshold",
        "fading": "redundant",
        "wide": "filter:too_wide",
        "tall": "redundant",
        "gone": "missing",
        "broken": "bad_row",
    }
    assert by_sample(out, "decision")["wide"] == "prune"
    cosine = {row["uri"].split("/")[-1]: row["first_last"] for row in table(out, "scores")}
    assert cosine["still.mp4"] == pytest.approx(1)
    assert cosine["turning.mp4"] < 0.1 < cosine["fading.mp4"] < 0.9
    assert (out / "kept.piped").read_bytes() == ROWS["turning"] + b"\n"
    dropped = [ROWS[name] for name in ("still", "fading", "wide", "tall")]
    assert (out / "dropped.piped").read_bytes() == b"\n".join(dropped) + b"\n"
    assert "All is as it should be." in run("verify", out)

    before = shutil.copytree(out, folder / "before")
    decided = run("decide", out, "--threshold", "at_least:2", "--set", "filters.shape.min=0.5")
    assert "     1  filter:too_tall" in decided
    reasons = by_sample(out, "reason")
    assert [reasons[name] for name in ("tall", "wide")] == ["filter:too_tall", "filter:too_wide"]
    assert by_sample(out, "decision")["fading"] == "keep"
    assert [row["shape"] for row in table(out, "filter_values")][:5] == [1, 1, 1, 3, 1 / 3]
    assert (out / "kept.piped").read_bytes() == ROWS["turning"] + b"\n" + ROWS["fading"] + b"\n"
    assert "All is as it should be." in run("verify", out)
    assert "Of 7 rows 4 are out whatever the threshold." in run("plan", out)
    assert "filter:too_tall" in run("compare", before, out)
    assert "report.html" in run("report", out)
    assert (out / "report.html").stat().st_size > 10_000


def test_its_format_is_known_by_its_suffix_and_by_name(folder):
    (folder / "clips.piped").rename(folder / "clips.txt")
    given = ("doctor", folder / "clips.txt", "--encoder", "mean_colour")
    assert "cannot tell the manifest's format from the suffix '.txt'" in vxp_data(*given).stderr
    misspelt = vxp_data(*given, "--format", "pipd")
    assert misspelt.returncode == 2
    assert "unknown manifest format 'pipd'. Did you mean 'piped'? Known: csv," in misspelt.stderr
    named = vxp_data(*given, "--format", "piped")
    assert "7 rows" in named.stdout


def test_a_measure_that_was_installed_after_a_run_does_not_spoil_it(tmp_path, monkeypatch):
    clip = StoredClip(emb_FD=np.eye(4, 8), duration_s=2.0)
    ours = stored_run(tmp_path / "ours", {"a.mp4": clip, "b.mp4": clip})
    decide(ours)
    install_third_party(tmp_path / "installed", monkeypatch)
    assert verify_run(ours, media=False).problems == []
    with pytest.raises(UserError, match=r"no scores by 'first_last', which was not there"):
        redecide(str(ours.root), measure="first_last", thresholds={}, default=None, overrides=[])
