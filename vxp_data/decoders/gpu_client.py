"""A decoding worker's way to its GPU: the server of the machine, started where there is none."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Final

import numpy as np

from vxp_data.decoders.gpu_child import GpuDecoded, GpuJob
from vxp_data.decoders.gpu_sandbox import GpuFrames
from vxp_data.errors import MediaError, UserError
from vxp_data.records import Reason

_START_S: Final = 60.0
_MOST_LOST: Final = 3
"""Servers that may be lost over one job."""


class GpuClient:
    """One worker's connection to the server of the GPU that it sees.

    Args:
        memory_bytes: see `GpuSandbox`; workers that say the same share a server.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._connection: Connection | None = None
        self._socket = ""
        self._server_pid = 0

    def decode(self, job: GpuJob) -> GpuFrames:
        """Decode one file on the GPU.

        Raises:
            MediaError: what the decoder raised, or `timeout`, `crashed`, `out_of_memory`.
            UserError: the GPU cannot be used.
            Exception: a bug in the decoder.
        """
        for _ in range(_MOST_LOST):
            try:
                return self._ask(job)
            except (EOFError, OSError):  # it was killed, or ended as we came
                self.close()
        raise MediaError(Reason.CRASHED, f"{_MOST_LOST} GPU servers were lost over this file")

    def close(self) -> None:
        """Let go of the server; it ends with its last client."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._server_pid and _has_ended(self._server_pid):
            self._server_pid = 0

    def _ask(self, job: GpuJob) -> GpuFrames:
        connection = self._connected()
        connection.send(job)
        answer = connection.recv()
        if isinstance(answer, GpuDecoded):
            pixels = np.frombuffer(connection.recv_bytes(), dtype=np.uint8)
            return GpuFrames(answer, pixels.reshape(answer.decoded.shape))
        assert isinstance(answer, Exception)
        raise answer

    def _connected(self) -> Connection:
        """Return the connection to the server of the GPU that this process sees now."""
        path = str(_folder() / f"{self._name()}.sock")
        if self._connection is not None and self._socket != path:  # a Ray worker's next task
            self.close()
        if self._connection is None:
            self._socket = path
            self._connection = self._connect(path)
        return self._connection

    def _connect(self, path: str) -> Connection:
        with suppress(OSError):
            return Client(path, "AF_UNIX")
        with _locked(path):  # one worker starts it, the others wait for that
            with suppress(OSError):
                return Client(path, "AF_UNIX")
            Path(path).unlink(missing_ok=True)
            self._server_pid = _start_server(path, self._memory_bytes)
            return _first_connection(path, self._server_pid)

    def _name(self) -> str:
        """Return a name for the GPU, the settings and the Python that all who share them have."""
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        told = (gpu, str(self._memory_bytes), sys.executable, str(Path(__file__).parent))
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]


def _start_server(path: str, memory_bytes: int) -> int:
    """Start a server that outlives this process if others need it; return its process."""
    arguments = [sys.executable, "-m", "vxp_data.decoders.gpu_server", path, str(memory_bytes)]
    return os.posix_spawn(
        sys.executable,
        arguments,
        {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,  # Ctrl-C is for the workers
    )


def _first_connection(path: str, server_pid: int) -> Connection:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s and not _has_ended(server_pid):
        with suppress(OSError):
            return Client(path, "AF_UNIX")
        time.sleep(0.05)
    raise ConnectionError("the GPU server does not start")


def _has_ended(pid: int) -> bool:
    """Whether a process that we started has ended; it is then no more."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _folder() -> Path:
    """Return this user's folder of sockets.

    Raises:
        UserError: somebody else made it.
    """
    folder = Path(tempfile.gettempdir()) / f"vxp-gpu-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise UserError(
            f"{folder} is not a folder of this user's alone, and workers reach the GPU through it. "
            "Remove it, or set TMPDIR to a folder of yours."
        )
    return folder


@contextmanager
def _locked(path: str) -> Iterator[None]:
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
