"""Error types that cross layers.

A failure of one video is a value, not an exception: `MediaError` never leaves the task that met it,
it becomes the columns `reason` and `message` of that video's row. The other types end the command.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from vxp_data.records import Reason

_MOST_LISTED: Final = 20
"""Names that a message lists; of more, those nearest to what was given."""


class VxpError(Exception):
    """Base of every error that ends a command on purpose; `exit_code` is the process's status."""

    exit_code = 1


class UserError(VxpError):
    """Something the user can fix: names the thing, what was got, what was wanted, what to do."""

    exit_code = 2


class ExpectationError(VxpError):
    """The run finished, and the `expect:` section of its recipe was not met."""

    exit_code = 3


class StoppedError(VxpError):
    """The user pressed Ctrl-C; what was written is whole."""

    exit_code = 130


class MediaError(Exception):
    """One media that could not be used, with its reason from the closed set.

    Attributes:
        reason: why, one of the quarantine reasons of `records.Reason`.
        message: the decoder's or the file system's own words.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)  # both, so that it survives pickling between processes
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.message}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> UserError:
    """Build the error for a name that is not in a closed set, with the nearest known ones.

    Of a long list only the nearest three are named.
    """
    names = sorted(known)
    if len(names) > _MOST_LISTED:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        return UserError(f"unknown {what} {name!r}.{hint}")
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {what} {name!r}.{hint} Known: {', '.join(names)}.")
