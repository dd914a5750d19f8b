"""How the code is built, in figures: `make code-facts`. A look, not a gate.

    python pipelines/code_facts.py                    # this checkout
    python pipelines/code_facts.py --at COMMIT        # that commit beside it
    python pipelines/code_facts.py DIR DIR ...        # other checkouts or packages, side by side

Counted are the packages: of a checkout, its folders with an `__init__.py` but for tests; a folder
that has one itself is a package. The layers are those that `tests/test_layering.py` of each
checkout knows (it needs pytest); all else needs the standard library alone.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
NUM_FOLDERS: Final = 5
"""Folders shown, those with most files."""
FUNCTION_LINES: Final = (40, 80)
FILE_LINES: Final = (300, 400)
ODD_OPENINGS: Final = ("Give", "Tell", "Hear", "Say")
OPENINGS: Final = """
Return Whether Called Add Align Answer Append Apply Arrange Ask Assemble Attend Average Begin
Buffer Build Change Check Choose Claim Classify Clear Close Collate Collect Compare Compose
Compress Compute Construct Convert Convolve Copy Count Create Cut Decide Decode Delete Demux
Describe Digest Dispatch Download Draw Drop Embed Encode Enter Escape Estimate Evaluate Exclude
Execute Extract Fetch Fill Find Fit Flush Forbid Forget Format Free Gather Generate Get Group Grow
Halve Hash Hide Hold Import Index Init Initialize Insert Iterate Join Keep Leave Limit List Load
Log Look Make Map Mark Mask Measure Merge Mix Move Name Open Order Orient Overlay Pad Pair Parse
Pass Pick Place Plan Pool Prepare Price Print Probe Project Prune Put Raise Rank Read Rebuild
Record Refuse Register Release Relink Remember Remove Rename Repeat Replace Report Resample Reset
Resolve Restore Resume Rewrite Rotate Round Run Sample Save Scale Score Select Send Set Shard
Share Show Shrink Sort Split Spread Stack Start Stop Store Stream Sum Summarise Switch Take Time
Tokenise Tokenize Train Transform Try Turn Undo Update Upload Use Validate Verify Wait Walk Wrap
Write Yield
"""
"""Those that are counted as fitting: a verb says what is done."""
_PUBLIC: Final = frozenset({"_replace", "_asdict", "_fields", "_make", "_exit"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Edges = Mapping[str, frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, read."""

    name: str
    """Path below the tree, with slashes."""
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path, root: Path) -> Source:
        """Read a file.

        Args:
            path: of the file.
            root: the tree that it is in.
        """
        text = path.read_text(encoding="utf-8")
        return cls(name=path.relative_to(root).as_posix(), text=text, tree=ast.parse(text, path))

    @property
    def module(self) -> str:
        """The name by which it is imported."""
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def functions(self) -> Iterator[Function]:
        """Find its functions and methods, nested ones too."""
        return (n for n in ast.walk(self.tree) if isinstance(n, Function))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT], help="default: this one")
    parser.add_argument("--at", metavar="COMMIT", help="show the first one at a commit as well")
    args = parser.parse_args()
    columns = [(path.resolve().name, facts(path.resolve())) for path in args.paths]
    if args.at:
        with tempfile.TemporaryDirectory() as folder:
            before = facts(checkout(args.paths[0], args.at, Path(folder)))
        columns.insert(0, (args.at, before))
    print(table(columns))


def checkout(repository: Path, commit: str, folder: Path) -> Path:
    """Write the files of a commit into a folder, and return that."""
    command = ["git", "-C", str(repository), "archive", commit]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"error: {repository} at {commit}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def facts(path: Path) -> dict[str, str]:
    """Count what there is to count of a checkout or package.

    Args:
        path: of it.

    Returns:
        What is counted -> the figure, in the order of the table.
    """
    root, packages = packages_of(path)
    sources = [
        Source.read(file, root)
        for package in packages
        for file in sorted((root / package).rglob("*.py"))
    ]
    return {
        "packages": ", ".join(packages),
        **sizes(sources),
        "import circles": str(len(circles(imports(sources)))),
        "upward arrows": upward_arrows(path),
        "private names of other modules": str(sum(map(private_accesses, sources))),
        "private names of the packages in tests": str(private_in_tests(path, packages)),
        **docstrings(sources),
        "full-line comments per 100 code lines": f"{comments_per_100(sources):.1f}",
        "annotated arguments": annotated(sources),
    }


def packages_of(path: Path) -> tuple[Path, list[str]]:
    """Return the tree and the packages in it that are counted."""
    if (path / "__init__.py").is_file():
        return path.parent, [path.name]
    found = sorted(init.parent.name for init in path.glob("*/__init__.py"))
    if not (found := [name for name in found if name not in ("tests", "test")]):
        sys.exit(f"error: {path}: no package here, no folder with an __init__.py. Name one.")
    return path, found


def sizes(sources: Sequence[Source]) -> dict[str, str]:
    """Count files by folder and by length, and functions by length."""
    folders = Counter(source.name.rpartition("/")[0] for source in sources)
    largest = sorted(folders.items(), key=lambda item: (-item[1], item[0]))[:NUM_FOLDERS]
    rows = {"files": str(len(sources)), "folders": str(len(folders))}
    for number in range(NUM_FOLDERS):
        name = "largest folders" if number == 0 else " " * (number + 1)
        rows[name] = f"{largest[number][0]} {largest[number][1]}" if number < len(largest) else ""
    file_lines = [len(source.text.splitlines()) for source in sources]
    rows["lines"] = f"{sum(file_lines):,}"
    for limit in FILE_LINES:
        rows[f"files above {limit} lines"] = str(sum(lines > limit for lines in file_lines))
    lengths = [
        (function.end_lineno or function.lineno) - function.lineno + 1
        for source in sources
        for function in source.functions()
    ]
    rows["functions"] = f"{len(lengths):,}"
    rows["lines of a function, median"] = f"{statistics.median(lengths or [0]):g}"
    rows["lines of a function, 95 %"] = f"{percentile_95(lengths)}"
    for limit in FUNCTION_LINES:
        rows[f"functions above {limit} lines"] = str(sum(length > limit for length in lengths))
    return rows


def percentile_95(values: Sequence[int]) -> int:
    """Return the least value that 95 % of the values do not exceed; 0 of none."""
    return sorted(values)[-(-95 * len(values) // 100) - 1] if values else 0


def imports(sources: Sequence[Source]) -> Edges:
    """Find which of the modules each one imports as it is loaded.

    Left out are imports in functions and for the type checker, and that a module's import loads
    the packages around it.
    """
    names = {source.module for source in sources}
    return {
        source.module: frozenset(
            target
            for node in _at_load(source.tree)
            for target in _targets(node, source, names)
            if target in names and target != source.module
        )
        for source in sources
    }


def _at_load(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif not isinstance(child, Function | ast.Lambda):
            yield from _at_load(child)


def _targets(node: ast.Import | ast.ImportFrom, source: Source, names: set[str]) -> Iterable[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = source.module.split(".")
        # In a package's __init__, one dot is the package itself.
        up = node.level - source.name.endswith("/__init__.py")
        base = ".".join([*parents[: len(parents) - up], *filter(None, [base])])
    full = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in names else base for name in full]


def circles(edges: Edges) -> list[set[str]]:
    """Find the groups of modules of which each imports, in the end, all others of its group."""
    reached = {name: _reached(name, edges) for name in edges}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in edges
        if name in reached[name]
    }
    return sorted((set(group) for group in groups), key=sorted)


def _reached(start: str, edges: Edges) -> set[str]:
    found: set[str] = set()
    queue = [start]
    while queue:
        new = edges[queue.pop()] - found
        found |= new
        queue += new
    return found


def upward_arrows(path: Path) -> str:
    """Count the imports that the checkout's layers forbid; '-' where it knows no layers."""
    file = path / "tests" / "test_layering.py"
    if not file.is_file():
        return "-"
    spec = importlib.util.spec_from_file_location(f"layering_{path.name}", file)
    assert spec and spec.loader  # noqa: PT018 - a file's spec has both
    layering = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = layering  # its dataclasses look their own module up
    spec.loader.exec_module(layering)
    return str(len(layering.violations(path)))


def private_accesses(source: Source) -> int:
    """Count where a file uses a name with one underscore that is not its own."""
    own = _names_defined(source.tree)
    taken = sum(
        is_private(alias.name)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    return taken + sum(
        is_private(node.attr) and node.attr not in own and not _is_self(node.value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
    )


def private_in_tests(path: Path, packages: Sequence[str]) -> int:
    """Count where a checkout's tests use a private name that one of its packages defines."""
    defined = {
        name
        for package in packages
        for file in (path / package).rglob("*.py")
        for name in _names_defined(Source.read(file, path).tree)
        if is_private(name)
    }
    count = 0
    for file in sorted((path / "tests").rglob("*.py")):
        tree = Source.read(file, path).tree
        wanted = defined - _names_defined(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                count += node.attr in wanted and not _is_self(node.value)
            elif isinstance(node, ast.ImportFrom):
                count += sum(alias.name in defined for alias in node.names)
    return count


def is_private(name: str) -> bool:
    """Whether a name has one underscore in front, and is not public for all that."""
    return name.startswith("_") and not name.startswith("__") and name not in _PUBLIC | {"_"}


def _is_self(node: ast.expr) -> bool:
    return ast.unparse(node) in ("self", "cls")


def _names_defined(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and _is_self(node.value):
            names.add(node.attr)
    return names


def docstrings(sources: Sequence[Source]) -> dict[str, str]:
    """Count how docstrings begin, but for those of properties, which are names; and who has one."""
    functions = (function for source in sources for function in source.functions())
    texts = (ast.get_docstring(function) for function in functions if not _is_property(function))
    words = [text.split()[0].rstrip(".,:;") for text in texts if text]
    known = set(OPENINGS.split())
    num_known = sum(word in known for word in words)
    public = [node for source in sources for node in _public(source.tree)]
    return {
        "docstrings: Return, Whether, Called, a verb": share(num_known, len(words)),
        f"docstrings: {', '.join(ODD_OPENINGS)}": str(sum(w in ODD_OPENINGS for w in words)),
        "public classes and functions with one": share(
            sum(ast.get_docstring(node) is not None for node in public), len(public)
        ),
    }


def _is_property(function: Function) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def _public(node: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _public(child)


def comments_per_100(sources: Sequence[Source]) -> float:
    """Return the full-line comments for every 100 lines of code, docstrings not being code."""
    counts = [_lines(source) for source in sources]
    num_code = sum(code for _, code in counts)
    return 100.0 * sum(comments for comments, _ in counts) / max(1, num_code)


def _lines(source: Source) -> tuple[int, int]:
    """Count a file's full-line comments, but for those at its head (a licence), and its code."""
    texts, comments, code = set[int](), set[int](), set[int]()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            is_text = isinstance(node.value.value, str)
            texts.update(range(node.lineno, (node.end_lineno or 0) + 1 if is_text else 0))
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            if code and token.line.lstrip().startswith("#"):
                comments.add(token.start[0])
        elif token.string.strip():
            code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code - texts)


def annotated(sources: Sequence[Source]) -> str:
    """Return the share of arguments that say their type; `self` and `cls` need not."""
    arguments = [
        argument
        for source in sources
        for function in source.functions()
        for argument in _arguments(function.args)
        if argument.arg not in ("self", "cls")
    ]
    return share(sum(a.annotation is not None for a in arguments), len(arguments))


def _arguments(args: ast.arguments) -> Iterator[ast.arg]:
    yield from (*args.posonlyargs, *args.args, *args.kwonlyargs)
    yield from (argument for argument in (args.vararg, args.kwarg) if argument is not None)


def share(part: int, whole: int) -> str:
    """Return a share in percent, rounded down, so that 100 % is all; '-' of nothing."""
    return f"{1000 * part // whole / 10:g} %" if whole else "-"


def table(columns: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Lay columns of the same rows side by side."""
    rows = [["", *(title for title, _ in columns)]]
    rows += [[name, *(figures[name] for _, figures in columns)] for name in columns[0][1]]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


if __name__ == "__main__":
    main()
