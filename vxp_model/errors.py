"""The errors that end a command, as in vxp_data; `require` checks a setting."""

from __future__ import annotations

from vxp_data.errors import StoppedError, UserError, VxpError

__all__ = ["StoppedError", "UserError", "VxpError", "require"]


def require(condition: bool, message: str) -> None:
    """Check one setting.

    Raises:
        UserError: the condition does not hold; with the message.
    """
    if not condition:
        raise UserError(message)
