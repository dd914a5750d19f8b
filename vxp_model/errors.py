"""Error types of the training package; the command line turns them into a status."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can fix: names the thing, what was got, what was wanted, what to do."""

    exit_code = 2


def require(condition: bool, message: str) -> None:
    """Check one setting.

    Raises:
        UserError: the condition does not hold; with the message.
    """
    if not condition:
        raise UserError(message)


class StoppedError(Exception):
    """The user, or the cluster, asked to stop; what was written is whole."""

    exit_code = 130
