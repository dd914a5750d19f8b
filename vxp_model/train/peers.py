"""Tells every process of a training at once when another one fails or is gone.

Without it, the others would wait in an exchange until its timeout, half an hour. Each process keeps
a connection to the first one, which passes on what it hears. Who fails says so; of who is killed,
the kernel closes the connection; of a machine that is gone, TCP's own probes tell after half a
minute. A process that is merely slow, or stopped for a while, keeps its connection: nothing here
counts heartbeats. Loads no torch.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from vxp_model.errors import StoppedError, VxpError

_KEY: Final = "vxp_model.train.peers"
_CONNECT_S: Final = 5.0
"""For each address of the first process."""
_OTHERS_FIRST_S: Final = 2.0
"""That a process whose exchange broke waits to hear whether another one broke it."""
_PROBES: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""Seconds without a word until the first probe, between probes, and how many may go unanswered."""


_GONE: Final = (
    "it is gone without a word: killed, out of memory, crashed, or its machine is gone. Its own "
    "output and its machine's log may say more. The same command goes on from the last checkpoint."
)


class Store(Protocol):
    """What all processes can read and write, as torch's stores."""

    def set(self, key: str, value: str, /) -> None:
        """Set a value."""

    def get(self, key: str, /) -> bytes:
        """Wait for a value and return it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a process ended."""

    rank: int
    host: str
    message: str
    exit_code: int

    def __str__(self) -> str:
        return f"process {self.rank} ({self.host}) ended the training: {self.message}"


class PeerFailedError(VxpError):
    """Another process has failed; `exit_code` is its status."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.exit_code = failure.exit_code


@contextmanager
def watch_peers(store: Store, *, rank: int, size: int, grace_s: float = 5.0) -> Iterator[None]:
    """Watch the other processes for the length of the context, and have them watch this one.

    When another has failed and this one does not end by itself, since it waits for the other in an
    exchange, it is ended, with the other's message.

    Args:
        store: shared by the processes.
        rank: of this process.
        size: how many they are; alone, nothing is watched.
        grace_s: that this process has to end by itself when another has failed.

    Raises:
        PeerFailedError: instead of what another's end has broken here.
    """
    if size == 1:
        yield
        return
    watch = _Watch(store, rank, grace_s)
    try:
        yield
    except StoppedError:  # all of them stop
        watch.leave()
        raise
    except VxpError as error:
        watch.report(str(error), error.exit_code)
        raise
    except BaseException as error:
        if (failure := watch.heard(_OTHERS_FIRST_S)) is not None:
            watch.leave()
            raise PeerFailedError(failure) from error
        watch.report(f"{type(error).__name__}: {error}", 1)
        raise
    watch.leave()


class _Watch:
    """This process's connections: the first one's to all, the others' to the first."""

    def __init__(self, store: Store, rank: int, grace_s: float) -> None:
        self._rank, self._host, self._grace_s = rank, socket.gethostname(), grace_s
        self._failure: Failure | None = None
        self._has_failed, self._ends = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._peers: dict[int, socket.socket] = {}
        if rank == 0:
            listener, token = _listener(), secrets.token_hex(16)
            address = {
                "hosts": _own_hosts(),
                "port": listener.getsockname()[1],
                "name": self._host,
                "token": token,
            }
            store.set(_KEY, json.dumps(address))
            _start(self._accept, listener, token)
        else:
            address = json.loads(store.get(_KEY))
            if (found := _connect(address, rank)) is None:
                _tell(
                    f"process {rank} cannot reach process 0 at port {address['port']} of "
                    f"{' or '.join(address['hosts'])}: should one of them die, the other waits for "
                    "half an hour."
                )
            else:
                self._peers[0], lines = found
                _start(self._listen, 0, address["name"], lines)

    def heard(self, wait_s: float) -> Failure | None:
        """Return which other process has failed, if any is heard of within so many seconds."""
        self._has_failed.wait(wait_s)
        return self._failure

    def report(self, message: str, exit_code: int) -> None:
        """Tell the others that this process has failed."""
        failure = Failure(rank=self._rank, host=self._host, message=message, exit_code=exit_code)
        self._say({"failed": asdict(failure)})
        self.leave()

    def leave(self) -> None:
        """Tell the others that this process is done, which is no failure."""
        self._ends.set()
        self._say({"left": True})

    def _accept(self, listener: socket.socket, token: str) -> None:
        while True:
            connection, _ = listener.accept()
            _start(self._admit, connection, token)

    def _admit(self, connection: socket.socket, token: str) -> None:
        """Let a process in that has read the store: anyone may connect."""
        lines = _lines(connection)
        hello = next(lines, {})
        if hello.get("token") != token:
            connection.close()
            return
        _send(connection, {"token": token})
        with self._lock:
            self._peers[hello["rank"]] = connection
            failure = self._failure
        if failure is not None:  # it came late
            _send(connection, {"failed": asdict(failure)})
        self._listen(hello["rank"], hello["host"], lines)

    def _listen(self, rank: int, host: str, lines: Iterator[dict[str, Any]]) -> None:
        """Hear a process out; what it says first, or that it says nothing more, counts."""
        for said in lines:
            if "left" in said:
                return
            if "failed" in said:
                self._note(Failure(**said["failed"]))
                return
        self._note(Failure(rank=rank, host=host, message=_GONE, exit_code=1))

    def _note(self, failure: Failure) -> None:
        with self._lock:
            if self._failure is not None or self._ends.is_set():
                return
            self._failure = failure
        if self._rank == 0:
            self._say({"failed": asdict(failure)})
        self._has_failed.set()
        if self._ends.wait(self._grace_s):
            return
        _tell(f"error: process {self._rank}: {failure}")
        sys.stdout.flush()
        os._exit(failure.exit_code)

    def _say(self, words: dict[str, Any]) -> None:
        with self._lock:
            peers = list(self._peers.values())
        for connection in peers:
            _send(connection, words)


def _listener() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _own_hosts() -> list[str]:
    """Return this machine's addresses, first the one by which it reaches the launcher's."""
    hosts = []
    if master := os.environ.get("MASTER_ADDR"):
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((master, 9))  # sends nothing: asks which way out is taken
            hosts.append(probe.getsockname()[0])
        hosts.append(master)
    return list(dict.fromkeys([*hosts, socket.gethostname()]))


def _connect(
    address: dict[str, Any], rank: int
) -> tuple[socket.socket, Iterator[dict[str, Any]]] | None:
    """Connect to the first process, by the first of its addresses that leads there."""
    hello = {"token": address["token"], "rank": rank, "host": socket.gethostname()}
    for host in address["hosts"]:
        with suppress(OSError):
            connection = socket.create_connection((host, address["port"]), timeout=_CONNECT_S)
            _send(connection, hello)
            lines = _lines(connection)
            if next(lines, {}).get("token") == address["token"]:
                connection.settimeout(None)
                return connection, lines
            connection.close()
    return None


def _lines(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Return what comes, until the connection ends, however it ends."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    received = b""
    with suppress(OSError, ValueError):  # gone, or a stranger's words
        while part := connection.recv(4096):
            *whole, received = (received + part).split(b"\n")
            for line in whole:
                said: dict[str, Any] = json.loads(line)
                yield said


def _send(connection: socket.socket, words: dict[str, Any]) -> None:
    with suppress(OSError):  # it is gone: whoever listens to it notes that
        connection.sendall(json.dumps(words).encode() + b"\n")


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _start(target: Any, *args: Any) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()
