"""README and docs/ name what there is: options, settings, targets, files, links."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blind
import caption_judge
import pytest
import typer
from typer.core import TyperGroup

from support.pages import (
    FOLDER_PAGES,
    PAGES,
    Block,
    anchors_of,
    blocks_of,
    inline_code,
    links_of,
    our_commands,
    prose_of,
    shows,
)
from support.repo import ROOT
from vxp_data.cli import app as data_app
from vxp_data.manifests.mixture import read_mixture
from vxp_data.settings.data import DataRecipe
from vxp_data.settings.file import SettingsFile
from vxp_data.settings.prune import FREE_MAPS
from vxp_model.cli import app as model_app
from vxp_model.settings.eval import EVAL_RECIPES
from vxp_model.settings.mllm import MLLM_RECIPES
from vxp_model.settings.needle import NEEDLE_RECIPES
from vxp_model.settings.probe import PROBE_RECIPES
from vxp_model.settings.recot import RECIPES

GROUPS: dict[str, Any] = {
    "vxp-data": typer.main.get_command(data_app),
    "vxp-model": typer.main.get_command(model_app),
}
KEYS = {
    "vxp-data": set(SettingsFile(DataRecipe, free_maps=FREE_MAPS).known_keys()),
    "vxp-model": {
        key
        for file in (RECIPES, MLLM_RECIPES, PROBE_RECIPES, EVAL_RECIPES, NEEDLE_RECIPES)
        for key in file.known_keys()
    },
}
TOP = ("vxp_data", "vxp_model", "pipelines", "manifests", "tests", "docs")
ALL = (*PAGES, *FOLDER_PAGES)
MAX_README_BYTES = 9_000


def subcommand(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words after its name."""
    found: Any = GROUPS[words[0]]
    rest = words[1:]
    while isinstance(found, TyperGroup) and rest and not rest[0].startswith("-"):
        found, rest = found.commands.get(rest[0]), rest[1:]
    return found, rest


def options_of(command: Any) -> set[str]:
    return {"--help", *(option for param in command.params for option in param.opts)}


def problems_of(words: list[str]) -> Iterator[str]:
    """What a command line names that its command does not know."""
    command, rest = subcommand(words)
    if command is None:
        yield f"{' '.join(words[:2])}: there is no such command"
        return
    for word in rest:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in options_of(command):
            yield f"{words[0]} {command.name}: there is no option {option}"
    for key in re.findall(r"--set '?([a-z_.]+)=", " ".join(rest)):
        if not is_key(key, KEYS[words[0]]):
            yield f"{words[0]} {command.name}: there is no setting {key}"
    for word in rest:
        if word.startswith(TOP) and word.endswith((".yaml", ".py")) and not (ROOT / word).exists():
            yield f"{words[0]} {command.name}: there is no file {word}"


def is_key(key: str, keys: set[str]) -> bool:
    return key in keys or any(key.startswith(f"{free}.") for free in FREE_MAPS)


def all_options() -> set[str]:
    found: set[str] = set()
    stack: list[Any] = list(GROUPS.values())
    for command in stack:
        found |= options_of(command)
        if isinstance(command, TyperGroup):
            stack += command.commands.values()
    return found | set(re.findall(r"--[a-z-]+", "".join(p.format_help() for p in SCORERS.values())))


def test_commands_of_scorers_can_be_read() -> None:
    seen = set()
    for block in every_block():
        for line in block.commands():
            words = shlex.split(line)
            name = Path(words[1]).name if words[0] == "python" else ""
            if name in SCORERS:
                SCORERS[name].parse_args(words[2:])
                seen.add(name)
    assert seen == set(SCORERS)


SCORERS = {"blind.py": blind.build_parser(), "caption_judge.py": caption_judge.build_parser()}
OTHERS_OPTIONS = {"--requeue", "--signal", "--python", "--videos"}
"""Of Slurm and of the benchmarks, in prose."""


def every_block() -> list[Block]:
    return [block for page in ALL for block in blocks_of(page)]


def test_commands_in_blocks_and_tables_know_their_options_and_settings() -> None:
    blocks = [block for block in every_block() if not block.shows_an_error()]
    lines = [(f"{b.page}:{b.line}", line) for b in blocks for line in b.commands()]
    lines += [(page.name, code) for page in ALL for code in inline_code(page) if " " in code]
    checked = [(where, words) for where, line in lines for words in our_commands(line)]
    assert len(checked) > 60
    assert [f"{where}: {p}" for where, words in checked for p in problems_of(words)] == []


def test_options_and_settings_in_prose_exist() -> None:
    known, keys = all_options() | OTHERS_OPTIONS, KEYS["vxp-data"] | KEYS["vxp-model"]
    sections = {key.partition(".")[0] for key in keys if "." in key}
    wrong, seen = [], 0
    for page in ALL:
        for code in inline_code(page):
            option = re.match(r"--[a-z-]+", code)
            key = re.match(r"([a-z_]+)\.[a-z_.]*[a-z_](?=$|[=: ])", code)
            if option and option[0] not in known:
                wrong.append(f"{page.name}: {code}")
            if key and key[1] in sections and not is_key(key[0], keys) and not is_file_name(code):
                wrong.append(f"{page.name}: {code}")
            seen += bool(option or key)
    assert seen > 60
    assert wrong == []


def is_file_name(code: str) -> bool:
    return code.endswith((".json", ".parquet", ".yaml", ".png", ".py"))


def test_yaml_in_blocks_is_a_mixture_that_can_be_read(tmp_path: Path) -> None:
    yaml_blocks = [block for block in every_block() if block.language == "yaml"]
    blocks = [block for block in yaml_blocks if block.text.startswith("datasets:")]
    assert blocks
    for block in blocks:
        (tmp_path / "mixture.yaml").write_text(block.text, encoding="utf-8")
        assert read_mixture(tmp_path / "mixture.yaml")


def test_make_knows_the_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    codes = [code for page in ALL for code in inline_code(page)]
    codes += [line for block in every_block() for line in block.commands()]
    named = {code.split()[1] for code in codes if code.startswith("make ")}
    assert len(named) > 5
    assert named <= targets


def test_files_that_are_named_exist() -> None:
    paths = [
        (page.name, code)
        for page in ALL
        for code in inline_code(page)
        if code.split("/")[0] in TOP and "/" in code and " " not in code and "*" not in code
    ]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path[1]).exists()] == []


def test_links_lead_to_files_and_headings() -> None:
    broken, num_links = [], 0
    for page in ALL:
        for file, anchor in links_of(page):
            num_links += 1
            target = (page.parent / file).resolve() if file else page
            if not target.exists() or (anchor and anchor not in anchors_of(target)):
                broken.append(f"{page.relative_to(ROOT)}: {file}#{anchor}")
    assert num_links > 100
    assert broken == []


def test_every_page_is_one_click_from_the_readme_and_in_the_table_of_contents() -> None:
    linked = {file for file, _ in links_of(ROOT / "README.md")}
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - linked == {"docs/index.md"}
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([a-z_/-]+)$", contents, flags=re.MULTILINE))
    assert listed == {page.removeprefix("docs/").removesuffix(".md") for page in pages} - {"index"}


def test_the_readme_is_short_and_says_early_what_one_must_know() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= MAX_README_BYTES
    early = text[: len(text) // 2]
    for words in ("8 GB", "550 MB", "is not semantic", "ReCoT is optional", "make demo"):
        assert words in early


def test_numbers_of_the_readme_are_in_their_records() -> None:
    def figures(name: str) -> dict[str, object]:
        path = ROOT / "manifests" / "runs" / f"{name}.json"
        found: dict[str, object] = json.loads(path.read_text())["figures"]
        return found

    def at(name: str, *keys: str) -> float:
        value: object = figures(name)
        for key in keys:
            assert isinstance(value, dict)
            value = value[key]
        assert isinstance(value, int | float)
        return value

    def right(record: str) -> str:
        shares = (
            f"{at(record, 'arms', arm, 'active', 'mean'):.1%}".replace("%", " %")
            for arm in ("mean_pairwise", "random-N", "random-2N")
        )
        return "**{}** v {}, {}".format(*shares)

    def seconds(tool: str) -> str:
        return f"{at('side-by-side-local', 'tools', tool, 'cpu_s_per_further_clip'):.2f}"

    def answered(arm: str) -> str:
        return f"{at('mllm-toy', 'arms', arm, 'heldout', 'all', 'accuracy'):.1%}".replace("%", " %")

    text = prose_of(ROOT / "README.md")
    for said in (
        f"**{seconds('vxp exact')}** v {seconds('decord_script')}",
        f"of {at('chaos', 'rows_compared'):,}, when the command is killed {at('chaos', 'kills')}",
        f"**{at('chaos', 'rows_lost')}**",
        right("table7"),
        right("table7-lite"),
        f"**{answered('video')}** v {answered('text')}",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("vxp-data prune a.json --out b --kept 0.5", "there is no option --kept"),
        ("vxp-data prun a.json", "there is no such command"),
        ("vxp-data mixture sho a.yaml", "there is no such command"),
        ("vxp-data prune a.json --out b --set frames.num=8", "there is no setting frames.num"),
        ("vxp-data prune a.json --out b --set filters.motion.min=1", ""),
        ("torchrun --nnodes 2 -m vxp_model train pipelines/x.yaml", "no file pipelines/x.yaml"),
        ("deepspeed --module vxp_model recot pipelines/smoke/recot.yaml --stage sft", "--stage"),
        ("ray job submit --no-wait -- vxp-data prune a --out b --adress auto", "--adress"),
    ],
)
def test_a_wrong_command_is_found(line: str, problem: str) -> None:
    (words,) = our_commands(line)
    found = list(problems_of(words))
    assert any(problem in text for text in found) if problem else found == []


@pytest.mark.parametrize(
    ("wanted", "missed"),
    [
        (["a 1", "b", "c"], ""),
        (["a ...", "...", "c"], ""),
        (["...", "b", "..."], ""),
        (["a 1", "c"], "c"),
        (["a 1", "b"], "the end; there is more: c"),
        (["b", "..."], "b"),
        (["a 1", "...", "b", "a 1"], "a 1"),
    ],
)
def test_shown_output_must_come_in_its_turn(wanted: list[str], missed: str) -> None:
    assert shows("a 1\nb\nc\n", wanted) == missed


def test_blocks_and_marks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.pages.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n<!-- not run: GPUs -->\n```bash\nx  # why\n```\n"
        "<!-- not run, lines with `y`: GPUs -->\n```bash\ny\nx \\\n  z\n```\n```text\n$ x\no\n```\n"
    )
    first, second, third = blocks_of(page)
    assert (first.not_run, first.is_run(), first.commands()) == ("GPUs", False, ["x"])
    assert (second.is_run(), second.commands_that_run()) == (True, ["x z"])
    assert (third.is_run(), third.commands(), third.line) == (True, ["x"], 13)
