"""The command line: what it says, how it ends, and that help costs nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from demo_videos import make_videos

from support.commands import VXP_DATA, vxp_data, vxp_data_here
from support.runs import caption_row, write_rows


@pytest.mark.parametrize("name", ["vxp-data", "vxp-model"])
def test_version_is_printed(name: str) -> None:
    command = [str(Path(VXP_DATA).with_name(name)), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{name} {version('vxp')}\n"


def test_help_groups_commands_by_workflow() -> None:
    lines = vxp_data("--help").stdout.splitlines()
    panels = [line.strip("╭─╮ ") for line in lines if line.startswith("╭")]
    assert panels == ["Options", "Start here", "Choose", "Look", "Write", "Check"]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from vxp_data.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "names = {'torch', 'ray', 'pyarrow', 'numpy', 'av', 'pydantic', 'yaml'}\n"
        "print('heavy:', sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "prune" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "error: manifest missing.json: no such file or folder."),
        (["rows.json", "--encoder", "siglp"], "unknown encoder 'siglp'. Did you mean 'siglip'?"),
        (["rows.json", "--measure", "mean"], "unknown similarity measure 'mean'"),
        (["rows.json", "--keep", "1.5"], "error: --keep 1.5: '1.5': threshold share: got 1.5"),
        (["rows.json", "--keep", "caption=1.5"], "error: --keep caption=1.5: '1.5': threshold"),
        (["rows.json", "--set", "thresholds.caption=x"], "thresholds.caption: threshold: got 'x'"),
        (["rows.json", "--threshold", "caption=high"], "wanted a score such as '0.80'"),
        (["rows.json", "--keep", "0.5", "--keep", "0.4"], "give one threshold for each task"),
        (
            ["rows.json", "--set", "frames.nun_frames=8"],
            (
                "unknown setting 'frames.nun_frames'. Did you mean 'frames.num_frames' or "
                "'sampling.num_frames' or 'frames.sampler'? `show-config` prints all of them."
            ),
        ),
        (["rows.json", "--set", "frames.num_frames=0"], "greater than or equal to 1; got 0"),
        (["rows.json", "--set", "sampling.polcy=a"], "Did you mean 'sampling.policy' or"),
        (["rows.json", "--set", "sampling.policy=fixed"], "Did you mean 'fixed_fps'?"),
        (
            ["rows.json", "--set", "sampling.max_frames=0"],
            "error: --set sampling.max_frames=0: sampling.max_frames: got 0, wanted 1 or more",
        ),
        (["rows.json", "--set", "frames"], "--set takes key=value, got 'frames'"),
        (["rows.json", "--media-root", "nowhere"], "--media-root nowhere: no such folder."),
        (["broken.json", "--encoder", "thumbnail"], "broken.json"),
        (["rows.txt"], "cannot tell the manifest's format from the suffix '.txt'"),
    ],
)
def test_what_the_user_can_fix_ends_with_one_message_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.json", [caption_row("a", "a.mp4")])
    (tmp_path / "rows.txt").write_text("")
    (tmp_path / "broken.json").write_text('[{"id": "a", "video": }]')
    done = vxp_data_here("prune", *arguments, "--out", "run")
    assert message in done.stderr.replace("\n", " ")
    assert done.returncode == 2
    assert not (tmp_path / "run" / "run.json").exists()


def test_decide_on_no_run_says_what_to_do(tmp_path: Path) -> None:
    done = vxp_data_here("decide", tmp_path, "--keep", "0.3")
    assert done.returncode == 2
    assert "holds no finished run" in done.stderr


def test_show_config_names_the_origin_of_each_value(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("frames:\n  num_frames: 10\nmeasure: centroid\n")
    done = vxp_data_here("show-config", recipe, "--set", "frames.num_frames=8")
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert lines["frames.num_frames"] == ["8", "--set", "frames.num_frames=8"]
    assert lines["measure"] == ["'centroid'", str(recipe)]
    assert lines["frames.sampler"] == ["'uniform'", "default"]
    assert lines["sampling.candidates_fps"] == ["[2.0,", "3.0,", "4.0]", "default"]


@pytest.mark.slow
def test_ctrl_c_stops_within_seconds_and_the_same_command_goes_on(tmp_path: Path) -> None:
    manifest = make_videos(tmp_path / "videos")
    out = tmp_path / "run"
    command = ["prune", str(manifest), "--out", str(out), "--encoder", "thumbnail"]
    settings = ["--set", "cluster.num_cpus=1"]
    with subprocess.Popen(
        [VXP_DATA, *command, *settings], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        deadline_s = time.monotonic() + 120
        while not list(out.glob("embeddings/part-*.parquet")):
            assert running.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=30)
    if running.returncode != 0:  # a quick machine may have been done
        assert running.returncode == 130, said
        assert "the same command goes on from there" in said
        assert "Traceback" not in said
        assert not (out / "run.json").exists()
    done = vxp_data(*command, *settings)
    assert done.returncode == 0, done.stderr
    assert "videos have embeddings here" in done.stderr
    rows = json.loads(manifest.read_text(encoding="utf-8"))
    assert json.loads((out / "run.json").read_text())["decided"]["num_in"] == len(rows)
    assert "Traceback" not in done.stderr


def test_nothing_that_a_manifest_holds_paints_the_terminal(tmp_path: Path) -> None:
    """Colours, cleared screens, bells, reversed text: all is shown as an escape."""
    hostile = "\x1b[2J\x1b]0;gone\x07\x9b31m\u202e[bold red]\r"
    turns = [{"from": "human", "value": f"{hostile}What is it?"}, {"from": "gpt", "value": "It."}]
    row = {"id": hostile, "kind": hostile, hostile: 1, "conversations": turns}
    name = f"rows{hostile}.jsonl"
    (tmp_path / name).write_text(json.dumps(row) + '\n{"\\u001b": 1, "\\u001b": 2}\n')
    options = ("--encoder", "thumbnail", "--set", "tasks.field=kind", "--out", tmp_path / "run")
    one_of_two = ("--set", "manifest.max_bad_share=0.5")
    done = vxp_data("prune", tmp_path / name, *options, *one_of_two)
    assert done.returncode == 0, done.stderr
    assert r"\x1b[2J\x1b]0;gone\x07\x9b31m\u202e[bold red]" in done.stdout
    (tmp_path / name).write_text(f"[{hostile}")
    failed = vxp_data("prune", tmp_path / name, *options)
    assert failed.returncode == 2
    for shown in (done.stdout, done.stderr, failed.stdout, failed.stderr):
        assert not {c for c in shown if not c.isprintable()} - {"\n", "\t"}
