"""One process for each GPU of a machine, which gives all decoding workers there the same child.

    python -m vxp_data.decoders.gpu_server SOCKET MEMORY_BYTES

Started by the first worker that wants the GPU (`gpu_client`), ended with the last one that is
connected. It trusts its clients, who are the same user's: the socket lies in a folder of theirs.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from typing import Final

from vxp_data.decoders.gpu_child import AT_ONCE, GpuJob
from vxp_data.decoders.gpu_sandbox import GpuFrames, GpuSandbox

_FIRST_CLIENT_S: Final = 30.0
"""How long it waits for a client to begin with."""

Answer = GpuFrames | Exception
"""Errors are raised by the client."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: GpuJob
    answer: Future[Answer] = field(default_factory=Future)


class GpuServer:
    """Takes jobs from connections, and hands as many as wait to the child together."""

    def __init__(self, listener: Listener, memory_bytes: int) -> None:
        self._listener = listener
        self._sandbox = GpuSandbox(memory_bytes)
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._clients = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def serve(self) -> None:
        """Serve until the last client is gone."""
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._decode, daemon=True).start()
        if not self._is_over.wait(_FIRST_CLIENT_S) and self._clients:
            self._is_over.wait()

    def _accept(self) -> None:
        while True:
            connection = self._listener.accept()
            with self._lock:
                self._clients += 1
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: Connection) -> None:
        """Answer one client's jobs, one at a time, until it is gone."""
        try:
            while True:
                waiting = _Waiting(connection.recv())
                self._waiting.put(waiting)
                _send(connection, waiting.answer.result())
        except (EOFError, OSError):
            pass
        finally:
            connection.close()
            with self._lock:
                self._clients -= 1
                if not self._clients:
                    self._is_over.set()

    def _decode(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < AT_ONCE and not self._waiting.empty():
                batch.append(self._waiting.get())
            for waiting, answer in zip(batch, self._answers(batch), strict=True):
                waiting.answer.set_result(answer)

    def _answers(self, batch: list[_Waiting]) -> list[Answer]:
        try:
            return list(self._sandbox.decode([waiting.job for waiting in batch]))
        except Exception as error:  # noqa: BLE001 - whoever asked is to have it
            return [error] * len(batch)


def _send(connection: Connection, answer: Answer) -> None:
    """Send an answer; pixels go as they are, behind what else there is."""
    if not isinstance(answer, GpuFrames):
        connection.send(answer)
        return
    connection.send(answer.result)
    connection.send_bytes(answer.frames_FHWC.data.cast("B"))


def main(path: str, memory_bytes: int) -> None:
    """Serve at a socket; see the module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the workers, which then go
    with Listener(path, "AF_UNIX", backlog=128) as listener:
        GpuServer(listener, memory_bytes).serve()
    os._exit(0)  # the child ends with this process; threads wait for what will not come


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
