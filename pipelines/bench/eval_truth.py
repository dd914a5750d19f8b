"""Do our parsers and scorers give the figures that were published for published answers?

    python pipelines/bench/eval_truth.py DIR

DIR/expected.json lists files of answers beside it and what is known of each: right answers as whole
numbers, by every part of every split; percentages, which must agree at the digits that are printed;
means, which must agree within 1e-9. Each file is scored by what its name begins with, by the
parsers and scorers of our own runs, and each figure is printed beside the expected one.

Unparsed replies are wrong, unless an entry names a publisher's convention: "compat": "official",
"lmms-eval", "vlmevalkit". Ends with 1 on any difference: a figure, a number of rows, a file that is
missing, a key of an entry that nobody checks.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import records
from eval_truth_checks import (
    Check,
    Entry,
    Scorer,
    UnfitError,
    UnknownKeyError,
    number_check,
)
from eval_truth_choice import CHOICE_SCORERS
from eval_truth_rules import RULE_SCORERS

SCORERS: Final[Mapping[str, Scorer]] = {**CHOICE_SCORERS, **RULE_SCORERS}
"""By what the names of files begin with."""

ABOUT: Final = frozenset(
    {"file", "rows", "repository", "commit", "paths", "note", "published_in", "compat", "model"}
)
"""Keys of an entry that are no figures."""
_NAME_WIDTH: Final = 44
_UNFIT: Final = (UnfitError, KeyError, TypeError, ValueError, ArithmeticError)
"""What rows and entries of another form end with."""


def main(argv: Sequence[str] | None = None) -> int:
    """Score every file, print every figure, return 1 on any difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, metavar="DIR", help="with expected.json")
    parser.add_argument("--record", action="store_true", help="write the run record eval-truth")
    args = parser.parse_args(argv)
    folder: Path = args.folder
    try:
        entries = read_expected(folder / "expected.json")
    except UnfitError as error:
        print(f"error: {error}")
        return 1
    different = compared = 0
    for entry in entries:
        print(entry["file"] if isinstance(entry.get("file"), str) else "an entry without a file")
        for check in checks_of(folder, entry):
            print(line_of(check))
            compared += 1
            different += not check.is_same
    print(f"\n{compared} figures of {len(entries)} files compared, {different} differ")
    if args.record:
        files = [entry["file"] for entry in entries]
        found = {"figures": compared, "different": different, "files": files}
        argv = [sys.argv[0], folder.name, "--record"]
        records.write_record("eval-truth", found, argv=argv, libraries=["vxp"])
    return 1 if different or not compared else 0


def read_expected(path: Path) -> list[dict[str, Any]]:
    """Return the entries, with decimals as they are printed.

    Raises:
        UnfitError: it cannot be read as a list of them.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise UnfitError(f"{path}: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnfitError(f"{path}: wanted a list of objects")
    return entries


def checks_of(folder: Path, entry: Entry) -> Iterator[Check]:
    """Yield every comparison that an entry asks for; what cannot be compared differs."""
    figures = {key: value for key, value in entry.items() if key not in ABOUT}
    try:
        name = entry.get("file")
        if not isinstance(name, str):
            raise UnfitError("'file' is not the name of a file")
        scorer = SCORERS[scorer_name(name)]
        rows = read_answers(folder / name)
        answers = scorer(rows, entry.get("compat"))
        if answers.needs_figures and not figures:
            raise UnfitError("no figure is expected of it")
    except _UNFIT as error:
        yield failed("the file", error)
        return
    yield number_check("rows", len(rows), entry.get("rows"))
    yield from answers.own
    for key, value in figures.items():
        try:
            yield from answers.checks(key, value)
        except _UNFIT as error:
            if not isinstance(error, UnknownKeyError) or holds_number(value):
                yield failed(key, error)


def holds_number(value: Any) -> bool:
    """Whether a value says a figure: words and lists of words only describe an entry."""
    if isinstance(value, Mapping):
        return any(map(holds_number, value.values()))
    if isinstance(value, list):
        return any(map(holds_number, value))
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def failed(name: str, error: Exception) -> Check:
    """Return the comparison that could not be made."""
    why = str(error) if isinstance(error, UnfitError) else f"{type(error).__name__}: {error}"
    return Check(name=name, ours=why, is_same=False)


def scorer_name(file: str) -> str:
    """Return what scores a file: the longest name in SCORERS that it begins with.

    Raises:
        UnfitError: there is none.
    """
    found = [name for name in SCORERS if file.startswith((f"{name}-", f"{name}."))]
    if not found:
        raise UnfitError(f"no scorer for {file!r}; there are {', '.join(SCORERS)}")
    return max(found, key=len)


def read_answers(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines, compressed or not.

    Raises:
        UnfitError: it is missing or is something else.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UnfitError(f"{path}: {error}") from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UnfitError(f"{path}, line {number}: {error}") from error
        if not isinstance(row, dict):
            raise UnfitError(f"{path}, line {number}: wanted an object")
        rows.append(row)
    return rows


def line_of(check: Check) -> str:
    """Return a comparison as it is printed."""
    mark = "      " if check.is_same else "DIFFER"
    return f"  {mark} {check.name:<{_NAME_WIDTH}} {check.ours}  {_expected(check)}"


def _expected(check: Check) -> str:
    return f"(expected {check.expected})" if check.expected else ""


if __name__ == "__main__":
    sys.exit(main())
