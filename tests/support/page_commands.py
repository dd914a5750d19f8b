"""Run what a page shows, in this process: the commands' own `main`, in the Ray that is there."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import shlex
import shutil
import sys
import warnings
from pathlib import Path

import pytest
from demo_videos import make_videos

from support.pages import Block, shows
from support.repo import ROOT
from support.runs import write_rows
from vxp_data import cli as data_cli

NUM_VIDEOS = 6
"""Of the demo's, in `train.json`: what a page prunes itself is quick."""


def make_place(folder: Path) -> None:
    """Make a folder as the pages take it for granted.

    With recipes and manifests of the checkout, the demo's videos and run (`runs/demo`), and some
    of these as the user's own (`train.json`, `videos`, `runs/first`, `shards/first`).
    """
    made = make_videos(folder / "runs" / "demo-videos")
    for name in ("pipelines", "manifests"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "videos").mkdir()
    rows = json.loads(made.read_text(encoding="utf-8"))
    names = sorted({row["video"] for row in rows if not row["video"].startswith("cut_")})
    for name in names[:NUM_VIDEOS]:
        (folder / "videos" / name).parent.mkdir(exist_ok=True)
        shutil.copy(made.parent / name, folder / "videos" / name)
    write_rows(folder / "train.json", [row for row in rows if row["video"] in names[:NUM_VIDEOS]])
    with contextlib.chdir(folder):
        for line in (
            (
                "vxp-data prune runs/demo-videos/annotations.json --out runs/demo "
                "--recipe pipelines/demo.yaml"
            ),
            "vxp-data prune train.json --media-root videos --out runs/first",
            "vxp-data shard runs/first --out shards/first --world-size 2",
        ):
            code, output = call(line)
            assert code == 0, output
    for name in ("runs/demo", "runs/first", "shards/first"):
        shutil.copytree(folder / name, folder / "as_made" / name)


def restore_place(folder: Path) -> None:
    """Make the runs and shards of a place as they were made, and remove what a page has added."""
    for path in folder.iterdir():
        if path.name == "as_made" or path.is_symlink() or path.name in ("train.json", "videos"):
            continue
        if path.is_file():
            path.unlink()
            continue
        for inner in path.iterdir():
            if inner.name != "demo-videos":
                shutil.rmtree(inner)
    shutil.copytree(folder / "as_made", folder, dirs_exist_ok=True)


def run_block(block: Block) -> str:
    """Run a block in the current folder; return what is wrong, '' for nothing."""
    if block.language == "python":
        return _run_python(block.text, f"{block.page}:{block.line}")
    if block.language == "text":
        return _run_session(block.text)
    for line in block.commands_that_run():
        code, output = call(line)
        if code != 0:
            return f"{line}\nexit code {code}\n{output}"
    return ""


def call(line: str) -> tuple[int, str]:
    """Run a command line; return its exit code and all that it wrote.

    A prune for which no encoder is named takes `thumbnail`: there are no weights here.
    """
    words = shlex.split(line)
    program = Path(words[0]).name
    if program == "python" and words[1] == "-c":
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            problem = _run_python(words[2], "-c")
        return (1 if problem else 0), written.getvalue() + problem
    if words[1] == "prune" and "--encoder" not in words and "demo.yaml" not in line:
        words += ["--encoder", "thumbnail"]
    return _main(program, words[1:])


def _main(program: str, words: list[str]) -> tuple[int, str]:
    """Call a command's `main` with these words."""
    if program == "vxp-data":
        main = data_cli.main
    elif program == "vxp-model":
        from vxp_model.cli import main
    else:
        return 127, f"{program}: a page may not run it"
    written = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(written),
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        patch.setattr(sys, "argv", [program, *words])
        patch.setenv("COLUMNS", "100")
        try:
            main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
    return code, written.getvalue() + (errors.getvalue() if code else "")


def _run_session(text: str) -> str:
    """Run the commands of a session and compare what they write."""
    for part in text.strip().split("\n$ "):
        line, *wanted = part.removeprefix("$ ").splitlines()
        _, output = call(line)
        if missed := shows(output, wanted):
            return f"{line}\nshows not: {missed}\n{output}"
    return ""


def _run_python(code: str, name: str) -> str:
    """Run Python; return its error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # webdataset and datasets leave files open
        try:
            exec(compile(code, name, "exec"), {"__name__": "page"})
        except Exception as error:  # noqa: BLE001 - whatever a page's code raises is shown
            return f"{name}: {type(error).__name__}: {error}"
        finally:
            gc.collect()
    return ""
