"""Tables of plain text, for terminals of 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 100
_GAP: Final = "  "
_LEAST_FIRST: Final = 12
"""Width that the first column always has."""


def table(rows: Sequence[Sequence[str]], *, indent: str = "") -> list[str]:
    """Return the lines of a table: the first column to the left, numbers to the right.

    Args:
        rows: of equal length, the heading first. Where a line would be wider than WIDTH, texts of
            the first column are cut.
        indent: before each line.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rest = sum(widths[1:]) + len(_GAP) * (len(widths) - 1) + len(indent)
    widths[0] = min(widths[0], max(_LEAST_FIRST, WIDTH - rest))
    lines = []
    for row in rows:
        cells = [shortened(row[0], widths[0]).ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append((indent + _GAP.join(cells)).rstrip())
    return lines


def shortened(text: str, width: int) -> str:
    """Return a text on one line, cut to a width."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= width else line[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
