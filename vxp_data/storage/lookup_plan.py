"""Whether objects are asked for singly or listed, a page at a time: by what is cheaper.

Keys of a bucket have an order, and a page of a listing has the next thousand from where one begins.
So a page that begins at a wanted key answers for all wanted keys among the thousand that follow,
and the next one begins at the first wanted key that it has not reached, however far that is.

A page costs about as much as HEADS_A_PAGE objects asked for singly. How close wanted keys lie is
not known before a page has come. The rule:

* Up to HEADS_A_PAGE wanted keys are asked for singly. Of more, a page is listed from the first one.
* Where it answers for HEADS_A_PAGE or more, the next page follows. What is left is cut into pieces
  of about PAGES_A_PIECE such pages, which are listed side by side.
* Where it answers for fewer, the next HEADS_A_PAGE keys are asked for singly, then a page is tried
  again; each time that fails, twice as many are asked for before.

All that costs at most 4 times what the cheapest way would, had one known where everything lies, and
never more than that times the cheaper of listing everything and asking for everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

HEADS_A_PAGE: Final = 10
"""What a page costs: 4 times the wait, 10 times our CPU seconds, 12 times the money (S3's list)."""
PAGES_A_PIECE: Final = 4
"""The last page of a piece may reach beyond it: a quarter more, at most."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Wanted keys of one bucket, and how they are looked up."""

    keys: Sequence[str]
    """1 or more, ascending."""
    singly_next: int = HEADS_A_PAGE
    """How many are asked for singly, should a page answer for few."""

    @property
    def is_singly(self) -> bool:
        """Whether all of it is asked for singly, without a page."""
        return len(self.keys) <= HEADS_A_PAGE

    @property
    def prefix(self) -> str:
        """Return the folder that all of it lies in: what is listed may be no more than that."""
        first, last = self.keys[0], self.keys[-1]
        common = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
        return first[: first.rfind("/", 0, len(list(common))) + 1]

    def after_page(self, num_answered: int) -> tuple[Sequence[str], list[Stretch]]:
        """Return what follows a page that was listed from the first key.

        Args:
            num_answered: keys that the page answers for, 1 or more.

        Returns:
            Keys to ask for singly, and stretches; with those of the page, all of them.
        """
        left = self.keys[num_answered:]
        if num_answered < HEADS_A_PAGE:
            singly, left = left[: self.singly_next], left[self.singly_next :]
            return singly, [Stretch(left, 2 * self.singly_next)] if left else []
        keys_a_piece = PAGES_A_PIECE * num_answered
        cuts = range(0, len(left), keys_a_piece)
        return (), [Stretch(left[i : i + keys_a_piece]) for i in cuts]

    def by_folder(self) -> list[Stretch]:
        """Cut it where the folder changes: what may be listed may end there."""
        folders = [key.rpartition("/")[0] for key in self.keys]
        cuts = [i for i in range(1, len(folders)) if folders[i] != folders[i - 1]]
        return [
            Stretch(self.keys[i:j]) for i, j in zip([0, *cuts], [*cuts, len(folders)], strict=True)
        ]


def just_before(key: str) -> str:
    """Return a text that sorts before a key, with few keys between the two.

    S3 lists what comes after a text, and the key itself is wanted.
    """
    last = ord(key[-1]) - 1 if key else 0
    if last <= ord(" ") or 0xD800 <= last <= 0xDFFF:
        return key[:-1]
    return f"{key[:-1]}{chr(last)}~"
