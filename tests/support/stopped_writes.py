"""Stop what writes a run directory after so many steps: by Ctrl-C here, by SIGKILL in a process."""

from __future__ import annotations

from typing import Any, Final

import pytest

from vxp_data.storage.folder import Folder

STEPS: Final = ("write_path", "write_bytes", "remove")
"""Methods of a folder that change it; the run's lock does not count."""
KILLED: Final = f"""
import os, signal, sys
from vxp_data.storage.folder import Folder

left = int(sys.argv[2])
real = {{name: getattr(Folder, name) for name in {STEPS}}}

def dying(name):
    def call(self, file, *more):
        global left
        if file != "lock.json":
            left -= 1
            if left < 0:
                if name == "write_path":  # half-written, too
                    real[name](self, file).__enter__().write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        return real[name](self, file, *more)
    return call

for name in real:
    setattr(Folder, name, dying(name))
"""
"""A program to put before another; its arguments are a run directory and the number of steps."""


def stop_after(num_done: int, patch: pytest.MonkeyPatch) -> None:
    """Let so many files be written or removed, and interrupt what wants to do more."""
    left = num_done

    def stopping(real: Any) -> Any:
        def call(folder: Folder, name: str, *more: Any) -> Any:
            nonlocal left
            if name != "lock.json":
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            return real(folder, name, *more)

        return call

    for name in STEPS:
        patch.setattr(Folder, name, stopping(getattr(Folder, name)))
