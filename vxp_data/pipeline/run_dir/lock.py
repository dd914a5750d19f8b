"""One run at a time in a run directory: `lock.json` names its holder.

The file is created by whoever comes first, which a disk and an object store both decide. It holds a
lease: the holder renews its time while it works, and a lease that was not renewed for some minutes
may be taken over, as may at once one whose process is known to be dead. Whoever finds another's
name in the file when renewing has been taken over, and stops before it commits anything more.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from vxp_data.errors import UserError
from vxp_data.storage.folder import Folder

LOCK_NAME: Final = "lock.json"
RENEW_S: Final = 60.0
EXPIRE_S: Final = 300.0
"""A lease not renewed for so long is nobody's; clocks of machines may differ by a minute or two."""
_SETTLE_S: Final = 0.5
"""Who takes over checks again after this: of two at once, the later one wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who works in a run directory."""

    host: str
    pid: int
    machine: str
    """Boot and process namespace: within it, `pid` means something."""
    process_start: str
    """Start of the process in ticks since boot: a later one of the same `pid` has another."""
    command: str
    since: str
    """UTC, ISO 8601."""
    renewed_at_s: float
    """Seconds since 1970, by the holder's clock."""
    token: str

    def __str__(self) -> str:
        """Name the holder for a message."""
        return f"`{self.command}` on {self.host}, process {self.pid}, since {self.since}"

    def to_bytes(self) -> bytes:
        """Write it as lock.json has it."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


class RunLock:
    """A lock that is held."""

    def __init__(self, folder: Folder, holder: Holder) -> None:
        self._folder = folder
        self._holder = holder
        self._renewed_s = time.monotonic()
        self._lost_to = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that the directory is still ours, before something is committed.

        Raises:
            UserError: another run took it over, or the lease could not be renewed in time, or the
                directory is gone: removed, or no longer mounted.
        """
        if not self._lost_to:
            with suppress(OSError):  # what cannot be read will not be written either
                self._look()
        if not self._lost_to and time.monotonic() - self._renewed_s > EXPIRE_S:
            self._lost_to = "the lease could not be renewed in time"
        if self._lost_to:
            raise UserError(
                f"{self._folder}: stopped, because {self._lost_to}. Nothing written is lost; run "
                "the same command again when nobody else works there."
            )

    def renew(self) -> bool:
        """Renew the lease now, as its thread does each minute; False where it is another's.

        Raises:
            UserError: the lease cannot be read.
        """
        self._look()
        if self._lost_to:
            return False
        renewed = replace(self._holder, renewed_at_s=time.time())
        self._folder.write_bytes(LOCK_NAME, renewed.to_bytes())
        self._renewed_s = time.monotonic()
        return True

    def release(self) -> None:
        """Release the directory, unless it is another's by now."""
        self._done.set()
        self._thread.join()
        if not self._lost_to:
            with suppress(UserError):
                found = _read(self._folder)
                if found is not None and found.token == self._holder.token:
                    self._folder.remove(LOCK_NAME)

    def _look(self) -> None:
        found = _read(self._folder)
        if found is None and not self._folder.exists(LOCK_NAME):
            self._lost_to = f"its {LOCK_NAME} is gone: it was removed, or its disk unmounted"
        elif found is None or found.token != self._holder.token:
            self._lost_to = f"it was taken over by {found or 'another run'}"

    def _keep_renewing(self) -> None:
        while not self._done.wait(RENEW_S):
            with suppress(UserError):  # a store that fails for a moment: try again
                if not self.renew():
                    return


@contextmanager
def run_lock(folder: Folder, command: str) -> Iterator[RunLock]:
    """Hold a run directory for the length of a block.

    Raises:
        UserError: another run holds it, or it cannot be written to; or what the block raised. Where
            the directory is no longer ours, that is said in its place: it is the cause.
    """
    lock = RunLock(folder, _take(folder, command))
    try:
        yield lock
    except UserError:
        lock.check()
        raise
    finally:
        lock.release()


def _take(folder: Folder, command: str) -> Holder:
    mine = _myself(command)
    if folder.create(LOCK_NAME, mine.to_bytes()):
        return mine
    found = _read(folder)
    if found is None or not is_dead(found):
        raise _held_by(folder, found)
    folder.write_bytes(LOCK_NAME, mine.to_bytes())
    time.sleep(_SETTLE_S)
    winner = _read(folder)
    if winner is None or winner.token != mine.token:
        raise _held_by(folder, winner)
    return mine


def _held_by(folder: Folder, holder: Holder | None) -> UserError:
    return UserError(
        f"{folder} is in use by {holder or 'another run'}. Wait for it to end, or choose another "
        f"--out. If that run is dead: its hold ends {EXPIRE_S / 60:.0f} minutes after its last "
        f"sign of life; to end it now, remove {folder.where(LOCK_NAME)}."
    )


def _read(folder: Folder) -> Holder | None:
    """Read who holds a directory; None where nobody does, or the file makes no sense.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return Holder(**json.loads(folder.read_bytes(LOCK_NAME)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    except OSError as error:
        raise UserError(
            f"cannot read {folder.where(LOCK_NAME)}: {error.strerror or error}. It tells who works "
            "there; make it readable, then run the same command again."
        ) from error


def find_holder(folder: Folder) -> Holder | None:
    """Return who works in a run directory, or did when it died; None where nobody does.

    Raises:
        UserError: it cannot be read.
    """
    return _read(folder)


def is_dead(holder: Holder) -> bool:
    """Whether a holder is known to be gone: by its process on this machine, else by its lease."""
    if holder.machine == _machine():
        return _process_start(holder.pid) != holder.process_start
    return time.time() - holder.renewed_at_s > EXPIRE_S


def _myself(command: str) -> Holder:
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        process_start=_process_start(os.getpid()),
        command=command,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        renewed_at_s=time.time(),
        token=secrets.token_hex(8),
    )


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _process_start(pid: int) -> str:
    """Return a process's start in ticks since boot; '' where there is none, or it is a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state[0] == "Z" else state[19]
