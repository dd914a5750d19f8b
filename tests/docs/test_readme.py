"""The README tells the truth: its commands run, its files and settings exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.repo import ROOT
from support.runs import caption_row, write_rows

README = (ROOT / "README.md").read_text(encoding="utf-8")


SAID = {
    "prune": "6 rows in",
    "decide": "6 rows in",
    "plan": "chosen: budget tokens=10000000",
    "report": "report.html:",
    "sample": "rows x 1 epochs planned",
    "shard": "0 quarantined",
    "estimate": "GPU hours",
}


def commands() -> list[str]:
    """Every line of the README's bash blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def commands_of(program: str) -> list[str]:
    """Those that begin with a program's name, wherever it lies."""
    return [line for line in commands() if Path(line.split()[0]).name == program]


def test_the_commands_are_those_that_this_test_runs() -> None:
    known = commands_of("make") + commands_of("vxp-data") + commands_of("vxp-model")
    assert sorted(known) == sorted(commands())
    assert {line.split()[1] for line in known if "/" in line.split()[0]} == set(SAID)


def test_make_knows_its_targets() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in commands_of("make"):
        assert line.split()[1] in targets


def test_its_commands_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "pipelines"))
    from demo_videos import make_videos

    made = make_videos(tmp_path / "videos")
    whole = (p for p in (tmp_path / "videos").rglob("*.mp4") if not p.name.startswith("cut_"))
    video = min(whole).relative_to(tmp_path / "videos").as_posix()
    made.unlink()
    rows = [caption_row(f"r{i}", video) for i in range(6)]
    for row in rows[2:]:  # of four open questions, 0.3 are kept whatever their score
        row["conversations"][0]["value"] = "<video>\nWhere does it end?"
    write_rows(tmp_path / "train.json", rows)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    small = ["--set", "cluster.num_cpus=1", "--set", "cluster.object_store_mib=100"]
    for line in commands_of("vxp-data") + commands_of("vxp-model"):
        words = shlex.split(line)
        program = str(Path(sys.executable).with_name(Path(words[0]).name))
        extra = ["--encoder", "thumbnail", *small] if words[1] == "prune" else []
        done = subprocess.run(
            [program, *words[1:], *extra],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert SAID[words[1]] in done.stdout


def test_the_demo_prints_what_the_readme_shows() -> None:
    shown = re.search(r"```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown is not None
    assert "52 rows in: 26 kept, 24 pruned, 2 quarantined" in shown.group(1)


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_settings_exist() -> None:
    from vxp_data.settings.prune import known_keys

    known = set(known_keys())
    for key in re.findall(r"--set ([a-z_]+\.[a-z_]+)=", README):
        assert key in known
