"""A process that watches its peers and does one thing: python -m support.peer_process ..."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from vxp_model.errors import StoppedError, UserError, VxpError
from vxp_model.train.peers import watch_peers

HANG_S = 60.0


class FolderStore:
    """Values as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def set(self, key: str, value: str, /) -> None:
        part = self._folder / f"{key}.part"
        part.write_text(value)
        part.rename(self._folder / key)

    def get(self, key: str, /) -> bytes:
        while not (path := self._folder / key).is_file():
            time.sleep(0.01)
        return path.read_bytes()


def act(action: str, folder: Path, rank: int, size: int) -> None:
    (folder / f"here-{rank}").touch()
    while len(list(folder.glob("here-*"))) < size:
        time.sleep(0.01)
    match action:
        case "hang":
            time.sleep(HANG_S)
        case "user_error":
            raise UserError("clip 'a' is broken.")
        case "bug":
            raise ValueError("three")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "broken exchange":  # what gloo says when a peer is gone
            time.sleep(0.5)
            raise RuntimeError("Connection closed by peer")
        case "stop":
            raise StoppedError("stopped after step 3")
        case "stopped for a while":  # as a debugger, or a machine that is put to sleep
            os.kill(os.getpid(), signal.SIGSTOP)
        case "slow":  # a C call that keeps the interpreter for itself
            sum(range(30_000_000))
            time.sleep(1)
        case "done":
            pass


def main() -> None:
    folder, rank, size, action = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    try:
        with watch_peers(FolderStore(folder), rank=rank, size=size, grace_s=0.5):
            act(action, folder, rank, size)
    except VxpError as error:
        sys.stderr.write(f"error: process {rank}: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
