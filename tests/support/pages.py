"""The pages a reader meets, README and docs/: their blocks, and what these name.

A fenced block is run, unless an HTML comment before it, which readers do not see, says why not:

    <!-- not run: needs GPUs -->
    <!-- not run, lines with `vxp-model train`: needs GPUs -->

How a block is run follows from its language: `bash` line by line, `python` as it stands, `text`
that begins with '$ ' as commands whose output it shows ('...' stands for any lines). Other `text`
shows output alone, and `console` is what cannot be run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.repo import ROOT

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FOLDER_PAGES: Final = tuple(
    ROOT / name
    for name in ("manifests/README.md", "manifests/runs/README.md", "pipelines/README.md")
)
"""What lies in a folder; their commands stand in tables."""

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run(?:, lines with `(?P<some>[^`]+)`)?: (?P<why>.+?) -->\n)?"
    r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_PROGRAMS: Final = ("vxp-data", "vxp-model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Of its first line in the page, from 1."""
    language: str
    text: str
    not_run: str = ""
    """Why it cannot be run here; '' where it can."""
    not_run_lines: str = ""
    """Only the lines that hold this cannot be run."""

    def is_run(self) -> bool:
        """Whether a test runs it, or some of its lines."""
        is_shell_or_python = self.language in ("bash", "python")
        is_session = self.language == "text" and self.text.startswith("$ ")
        return (is_shell_or_python or is_session) and (not self.not_run or bool(self.not_run_lines))

    def commands(self) -> list[str]:
        """Return the commands of a shell block or a session, each on one line, no comments."""
        if self.language == "text":
            return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        if self.language not in ("bash", "console"):
            return []
        joined = re.sub(r"\s*\\\n\s*", " ", self.text)
        lines = [re.sub(r"(^|\s+)#\s.*$", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    def shows_an_error(self) -> bool:
        """Whether it is a session that a message ends: what it names may be wrong on purpose."""
        return self.language == "text" and "\nerror: " in self.text

    def commands_that_run(self) -> list[str]:
        """Return those that a test runs."""
        held_back = self.not_run_lines
        return [line for line in self.commands() if not held_back or held_back not in line]


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            page=path.relative_to(ROOT).as_posix(),
            line=text.count("\n", 0, found.start("text")) + 1,
            language=found["language"],
            text=found["text"],
            not_run=found["why"] or "",
            not_run_lines=found["some"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def prose_of(path: Path) -> str:
    """Return a page without its blocks and HTML comments."""
    text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"^```\{.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def inline_code(path: Path) -> Iterator[str]:
    """Return what stands between single backticks in the prose."""
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose_of(path))


def our_commands(line: str) -> Iterator[list[str]]:
    """Return the words of each of our commands in a line, from the program's name on.

    Also behind launchers: `torchrun ... -m vxp_model train X`, `ray job submit ... -- vxp-data`.
    """
    line = line.replace("-m vxp_model ", "; vxp-model ").replace(
        "--module vxp_model ", "; vxp-model "
    )
    for part in re.split(r";\s|\s--\s|'torchrun", line):
        try:
            words = shlex.split(part)
        except ValueError:  # cut out of a quotation of the shell's
            words = part.replace("'", "").split()
        if words and Path(words[0]).name in _PROGRAMS:
            yield [Path(words[0]).name, *words[1:]]


def shows(output: str, wanted: list[str]) -> str:
    """Return what of `wanted` does not come in its turn in the output; '' where all does.

    Between lines of `wanted`, '...' stands for any lines; within a line, for any characters.
    """
    lines, at, is_gap = output.splitlines(), 0, False
    for line in wanted:
        if line == "...":
            is_gap = True
            continue
        pattern = re.escape(line).replace(re.escape("..."), ".*")
        found = (index for index in range(at, len(lines)) if re.fullmatch(pattern, lines[index]))
        index = next(found, None)
        if index is None or (index != at and not is_gap):
            return line
        at, is_gap = index + 1, False
    return "" if is_gap or at == len(lines) else f"the end; there is more: {lines[at]}"


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and MyST make them."""
    headings = re.findall(r"^#{1,4} (.+)$", prose_of(path), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return set(plain)


def links_of(path: Path) -> list[tuple[str, str]]:
    """Return (file, anchor) of each link that does not lead into the web; '' for this page."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose_of(path))
    inside = [target for target in targets if not re.match(r"[a-z]+://", target)]
    return [(target.partition("#")[0], target.partition("#")[2]) for target in inside]
