"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(head: Sequence[str], body: Sequence[Sequence[str]], *, num_words: int) -> str:
    """Return a table: columns two blanks apart, words to the left, numbers to the right.

    Args:
        head: names of the columns.
        body: lines, a cell for each column.
        num_words: columns of words, the first ones.
    """
    lines = [list(head), *(list(line) for line in body)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < num_words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
