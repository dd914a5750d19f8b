"""docs/extending.md: its package is installed as it stands there, and its commands are run."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.benchmark_contract import check_benchmark
from support.commands import vxp_data
from support.distributions import install, offer
from support.filter_contract import check_filter
from support.flat_videos import BLUE, RED, write_flat_video
from support.repo import ROOT
from support.runs import by_sample, caption_row, table, write_rows
from support.selector_contract import check_selector
from vxp_data import registry
from vxp_data.core.filters import load_rule
from vxp_data.core.selectors.base import load_selector
from vxp_data.registry import Registry
from vxp_model import registry as model_registry

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\S+\.(?:py|yaml))\n(.*)", re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def files() -> dict[str, str]:
    """Every block that begins with the name of the file that it is."""
    found = (_FILE.fullmatch(text) for text in (*blocks("python"), *blocks("yaml")))
    return {match[1]: match[2] for match in found if match}


def entry_points() -> dict[str, dict[str, str]]:
    """Return all that its `pyproject.toml` says: group -> name -> target."""
    groups: dict[str, dict[str, str]] = {}
    for text in blocks("toml"):
        for group, names in tomllib.loads(text)["project"]["entry-points"].items():
            assert group not in groups
            groups[group] = names
    return groups


def tables() -> Iterator[tuple[str, Registry]]:
    for module in (registry, model_registry):
        yield from ((n, table) for n, table in vars(module).items() if isinstance(table, Registry))


def commands() -> list[list[str]]:
    return [shlex.split(line) for text in blocks("bash") for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder in which the page's files lie, and what its commands read."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in files().items():
        path = folder / ("installed" if name.endswith(".py") else ".") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    videos = folder / "videos"
    videos.mkdir()
    write_flat_video(videos / "still.mp4", num_frames=30, rgb=RED)
    write_flat_video(videos / "turning.mp4", num_frames=30, rgb=RED, last_rgb=BLUE)
    write_flat_video(videos / "wide.mp4", num_frames=30, rgb=BLUE, size_px=(96, 32))
    Image.new("RGB", (32, 32), RED).save(videos / "red.png")
    rows = [caption_row(name, f"{name}.mp4") for name in ("still", "turning", "wide")]
    for colour in ("red", "blue"):
        row = caption_row(colour, "")
        row["conversations"][1]["value"] = f"All of it is {colour}."
        rows.append({**row, "image": "red.png"})
    del rows[-1]["video"], rows[-2]["video"]
    write_rows(folder / "train.json", rows)
    (folder / "clips.piped").write_text("piped|still.mp4|It stays | as it is.\n")
    (videos / "titles.csv").write_text('file,title\nstill.mp4,"Red, still"\nwide.mp4,Wide\n')
    questions = '{"video": "a.mp4", "options": ["red", "blue"], "answer": "%s"}\n'
    (folder / "benchmarks/colours").mkdir(parents=True)
    (folder / "benchmarks/colours/colours.jsonl").write_text(questions % "blue" + questions % "red")
    return folder


@pytest.fixture
def installed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the page's package for this process and all it starts."""
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items())
        for group, names in entry_points().items()
    )
    offer(monkeypatch, install(tmp_path / "metadata", "acme", text), folder / "installed")
    monkeypatch.chdir(folder)
    return folder


def test_every_table_has_an_example_with_its_own_heading(installed: Path) -> None:
    assert installed
    examples = entry_points()
    assert sorted(examples) == sorted(table.group for _, table in tables())
    headings = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    for name, known in tables():
        assert known.what.removeprefix("similarity ").capitalize() in headings
        assert f"`{name}`" in PAGE
        (example,) = examples[known.group]
        assert known.load(example) is not None


def test_the_walk_names_at_most_four_files_and_functions_that_are_in_them() -> None:
    walk = PAGE.partition("## A walk\n")[2].partition("\n## ")[0]
    steps = re.split(r"^\d\. ", walk, flags=re.MULTILINE)[1:]
    assert 1 <= len(steps) <= 4
    assert len(re.findall(r"`[^`]*\.py`", walk)) == len(steps)
    for step in steps:
        path, *names = re.findall(r"`([^`]*)`", step.partition("\n\n")[0])
        body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        assert names
        assert set(names) <= defined, path


def test_the_names_in_code_on_the_page_exist() -> None:
    paths = re.findall(r"`((?:vxp_data|vxp_model|tests)/[^`]*)`", PAGE)
    assert paths
    for path in paths:
        assert (ROOT / path).is_file(), path
    for name, path in re.findall(r"`(\w+)` in\s+`([^`]*\.py)`", PAGE):
        assert re.search(rf"^(class |def |){name}\b", (ROOT / path).read_text(), re.MULTILINE), name


def test_its_parts_keep_the_contracts(installed: Path) -> None:
    check_filter(load_rule("shape"))
    check_selector(load_selector("farthest"))
    benchmark = model_registry.BENCHMARKS.load("colours")()
    check_benchmark(benchmark, installed / "benchmarks/colours")


def run(*words: str) -> str:
    done = vxp_data(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def all_prunes() -> list[str]:
    """Return one `prune` of all the manifests and with all the options that the page shows."""
    manifests: dict[str, None] = {}
    options: dict[tuple[str, str], None] = {}
    for words in commands():
        if words[1] == "prune":
            manifests[words[2]] = None
            options |= dict.fromkeys(zip(words[3::2], words[4::2], strict=True))
    assert len(manifests) == 2
    return ["prune", *manifests, *(word for option in options for word in option)]


def test_its_commands_run_one_after_the_other(installed: Path) -> None:
    small = ("--set", "cluster.num_cpus=1")
    out = installed / "runs/a"
    told = run(*all_prunes(), *small)
    assert "6 rows in" in told
    reasons = by_sample(out, "reason")
    assert (reasons["red"], reasons["blue"]) == ("image", "caption_unlike_image")
    media = {Path(row["uri"]).name: row for row in table(out, "media")}
    assert media["still.mp4"]["decoder"] == "upside_down"
    assert media["still.mp4"]["frame_index"][0] == 3  # of 30 frames, three at either end are left
    assert (out / "kept.clips.piped").read_bytes() == b"piped|still.mp4|It stays | as it is.\n"
    others = [words[1:] for words in commands() if words[1] != "prune"]
    measured, filtered, selected, cut, sampled, ingested = others
    assert "Thresholds are on first_last." in run(*measured)
    run(*filtered)
    assert by_sample(out, "reason")["wide"] == "filter:too_wide"
    assert "Thresholds are on select:farthest@1." in run(*selected)
    kept = by_sample(out, "decision")  # the one that is unlike the others, and one of two rows
    assert [kept[name] for name in ("turning", "piped", "still")] == ["keep", "keep", "prune"]
    run("decide", str(out), "--select", "none")
    run(*cut)
    kept = by_sample(out, "decision")
    assert [kept[name] for name in ("turning", "still", "piped")] == ["keep"] * 3  # the two tie
    run(*sampled)
    assert set(pq.read_table(out / "plans.parquet")["policy"].to_pylist()) == {"calm"}
    run(*ingested)
    assert "Red, still" in (installed / "acme.jsonl").read_text()
    assert "All is as it should be." in run("verify", str(out))


def test_its_benchmark_gives_the_figures_of_its_answers(installed: Path) -> None:
    (script,) = (text for text in blocks("python") if not _FILE.fullmatch(text))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=installed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "accuracy: 0.50 of 2",
        "accuracy, colour blue: 1.00 of 1",
        "accuracy, colour red: 0.00 of 1",
    ]
