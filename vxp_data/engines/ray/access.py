"""Whether a cluster lets us in: what it wants, the token that Ray would find, what is wrong.

A head that `ray start` has made wants a token where it found one, or was told to by
RAY_AUTH_MODE=token. Ray looks for a token in three places, and shows it to a cluster only where
RAY_AUTH_MODE says so, or the address is 'auto'; we show it where the cluster wants one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.engines.ray.head_probe import Answer, ask_head
from vxp_data.errors import UserError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
OF_KUBERNETES: Final = "RAY_ENABLE_K8S_TOKEN_AUTH"
_DEFAULT_FILE: Final = "~/.ray/auth_token"
_WAYS: Final = (
    f"Set {TOKEN}, or {TOKEN_PATH} to a file that holds it, or copy the head's {_DEFAULT_FILE} "
    f"here (on the head `ray get-auth-token` prints it)."
)


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A token, and where it was."""

    value: str
    source: str


def access_to(address: str) -> dict[str, str]:
    """Return the settings of Ray's, for this process, with which a cluster lets us in.

    Args:
        address: 'auto' or HOST:PORT; of any other, Ray judges.

    Raises:
        UserError: it does not; says whether mode, token or address is wrong. In seconds.
    """
    there = _head_of(address)
    if there is None or OF_KUBERNETES in os.environ:  # tokens of Kubernetes: Ray's own business
        return {}
    mode, token = os.environ.get(MODE), find_token()
    if _ask(address, there, None) is not Answer.REFUSES:
        if token is None and mode is not None and mode.lower() == "token":
            raise UserError(
                f"{MODE} is {mode!r} here, and there is no token; the Ray cluster at {address!r} "
                f"wants none. Unset {MODE}."
            )
        return {}
    if mode is not None and mode.lower() != "token":
        raise UserError(
            f"the Ray cluster at {address!r} wants a token, and {MODE} is {mode!r} here. Unset it: "
            "the token that is found is shown to clusters that want one."
        )
    if token is None:
        raise UserError(
            f"the Ray cluster at {address!r} wants a token, and there is none here: {TOKEN} and "
            f"{TOKEN_PATH} are not set, {_DEFAULT_FILE} does not exist. {_WAYS}"
        )
    if _ask(address, there, token.value) is Answer.REFUSES:
        raise UserError(
            f"the Ray cluster at {address!r} wants another token than the one of {token.source}. "
            f"{_WAYS}"
        )
    return {MODE: "token"}


def find_token() -> FoundToken | None:
    """Return the token that Ray would find here, in its order; None: there is none.

    Raises:
        UserError: RAY_AUTH_TOKEN_PATH names a file that holds none; Ray looks no further then.
    """
    if value := os.environ.get(TOKEN, "").strip():
        return FoundToken(value, TOKEN)
    if named := os.environ.get(TOKEN_PATH):
        value = _read(Path(named).expanduser())
        if not value:
            raise UserError(
                f"{TOKEN_PATH} names {named}, which cannot be read or is empty. {_WAYS}"
            )
        return FoundToken(value, f"{named} ({TOKEN_PATH})")
    try:
        value = _read(Path(_DEFAULT_FILE).expanduser())
    except RuntimeError:  # nobody knows where the home folder would be
        return None
    return FoundToken(value, _DEFAULT_FILE) if value else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _head_of(address: str) -> tuple[str, int] | None:
    """Return host and port of a cluster's head; None: only Ray knows."""
    is_auto = address == "auto" and not os.environ.get("RAY_ADDRESS")
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _last_started()
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return None
    there = host.strip("[]"), int(port)
    return None if is_auto and not _is_head(there) else there


def _last_started() -> str:
    """Return the head that `ray start` has noted on this machine last; '': none."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return _read(Path(folder) / "ray" / "ray_current_cluster")


def _is_head(there: tuple[str, int]) -> bool:
    """Whether a head that was noted is there still; else Ray looks for others that run."""
    try:
        return ask_head(*there, None) is not Answer.IS_NO_HEAD
    except OSError:
        return False


def _ask(address: str, there: tuple[str, int], token: str | None) -> Answer:
    try:
        answer = ask_head(*there, token)
    except OSError as error:
        raise UserError(
            f"no Ray cluster at {address!r}: nothing answers at {there[0]}:{there[1]} "
            f"({error.strerror or error}). Check host, port (usually 6379) and firewalls; leave "
            "--address out to run on this machine."
        ) from error
    if answer is Answer.IS_NO_HEAD:
        raise UserError(
            f"no Ray cluster at {address!r}: what answers at {there[0]}:{there[1]} is not the head "
            "of a Ray cluster. Give the port of `ray start --head` (usually 6379; 8265 is the "
            "dashboard's and 10001 the client's)."
        )
    return answer
