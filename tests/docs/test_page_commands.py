"""What README and docs/ show runs: commands, sessions with their output, Python."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.page_commands import make_place, restore_place, run_block
from support.pages import PAGES, Block, blocks_of

OWN_TESTS = ("python", "extending")
"""Pages whose blocks follow on one another, each with a test of its own beside this file."""
RUN = [
    page
    for page in PAGES
    if page.stem not in OWN_TESTS and any(block.is_run() for block in blocks_of(page))
]


@pytest.fixture(scope="module")
def made_place(
    tmp_path_factory: pytest.TempPathFactory,
    engine: None,  # noqa: ARG001 - where it runs
) -> Path:
    folder = tmp_path_factory.mktemp("place")
    make_place(folder)
    return folder


@pytest.fixture
def place(made_place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    import datasets

    monkeypatch.chdir(made_place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield made_place
    restore_place(made_place)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_what_a_page_shows_runs_from_top_to_bottom(place: Path, page: Path) -> None:
    if "--out shards/first" in page.read_text(encoding="utf-8"):
        shutil.rmtree(place / "shards")  # the page writes them itself
    for block in blocks_of(page):
        if block.is_run():
            assert not (problem := run_block(block)), f"{block.page}:{block.line}: {problem}"


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("language", "text", "problem"),
    [
        ("bash", "vxp-data verify runs/first\n", ""),
        ("bash", "vxp-data verify runs/none  # not there\n", "exit code 2"),
        ("bash", "vxp-data verify runs/first --deep\n", "No such option"),
        ("bash", "rm -r runs\n", "a page may not run it"),
        ("text", "$ vxp-data verify runs/demo\n...\nAll is as it should be.\n", ""),
        ("text", "$ vxp-data verify runs/demo\nAll is as it should be.\n", "shows not: All is"),
        ("text", "$ vxp-data verify runs/demo\nruns/demo: 52 rows...\n", "there is more: All is"),
        ("python", "open('runs/first/run.json').close()\n", ""),
        ("python", "open('runs/none/run.json').close()\n", "FileNotFoundError"),
    ],
)
def test_a_block_that_does_not_do_what_it_says_is_found(
    language: str, text: str, problem: str
) -> None:
    found = run_block(Block(page="page.md", line=1, language=language, text=text))
    assert (problem in found) if problem else not found


def test_every_block_that_is_not_run_says_why() -> None:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    not_run = Counter(block.page for block in blocks if block.not_run)
    unsaid = [
        f"{block.page}:{block.line}"
        for block in blocks
        if block.language in ("console", "dockerfile") and not block.not_run
    ]
    assert unsaid == []
    assert sum(not_run.values()) == NUM_NOT_RUN, dict(not_run)
    assert sum(block.is_run() for block in blocks) > NUM_NOT_RUN


NUM_NOT_RUN = 38
"""Blocks that need GPUs, clusters, downloads or hours. One more is a promise that nobody keeps."""
