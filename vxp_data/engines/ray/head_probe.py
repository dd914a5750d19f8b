"""Ask a port, in milliseconds, whether a Ray cluster's head answers there and lets us in.

Ray itself asks 20 times, a second apart, before it gives up, and does not say what was refused.
The question is one of gRPC (the cluster's id), sent by hand: a client of gRPC does not come with
Ray Data.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TIMEOUT_S: Final = 5.0
_METHOD: Final = b"/ray.rpc.NodeInfoGcsService/GetClusterId"

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_EMPTY_MESSAGE: Final = bytes(5)
"""Not compressed, 0 bytes long."""
_MOST_FRAME_BYTES: Final = 1 << 14

_STATUS: Final = re.compile(rb"grpc-status[\x01\x02](\d{1,2})")
_OK, _UNAUTHENTICATED = 0, 16


class Answer(StrEnum):
    """What a port answers."""

    LETS_IN = "lets in"
    REFUSES = "refuses"
    """Without a token it wants one; with one it wants another."""
    IS_NO_HEAD = "is no head"
    SAYS_NOTHING = "says nothing"
    """It speaks as a head does, and has not answered in time."""


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def ask_head(host: str, port: int, token: str | None) -> Answer:
    """Ask for the cluster's id, with a token or without.

    Raises:
        OSError: nothing takes a connection there.
    """
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        is_http2 = False
        try:
            connection.sendall(_question(f"{host}:{port}", token))
            for frame in _frames(connection):
                is_http2 = is_http2 or frame.kind == _SETTINGS
                if not is_http2 or frame.kind == _GOAWAY:
                    return Answer.IS_NO_HEAD
                if frame.kind == _HEADERS and frame.flags & _END_STREAM:
                    return _judge(frame.payload)
        except TimeoutError:
            return Answer.SAYS_NOTHING if is_http2 else Answer.IS_NO_HEAD
        except OSError:  # it hangs up on what it does not understand
            return Answer.IS_NO_HEAD
    return Answer.IS_NO_HEAD


def _question(authority: str, token: str | None) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": _METHOD.decode(),
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    if token is not None:
        fields["authorization"] = f"Bearer {token}"
    headers = b"".join(_field(name.encode(), value.encode()) for name, value in fields.items())
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, _EMPTY_MESSAGE)
    )


def _field(name: bytes, value: bytes) -> bytes:
    """Return a header as HPACK writes one that is not to be remembered (RFC 7541, 6.2.2)."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    """Return an integer in HPACK's prefix of 7 bits (RFC 7541, 5.1)."""
    if number < 127:
        return bytes([number])
    rest, digits = number - 127, [127]
    while rest >= 128:
        digits.append(rest % 128 + 128)
        rest //= 128
    return bytes([*digits, rest])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def _frames(connection: socket.socket) -> Iterator[_Frame]:
    """Return the frames of the only stream, until the connection ends or is none of HTTP/2."""
    while len(head := _exactly(connection, 9)) == 9:
        num_bytes = int.from_bytes(head[:3], "big")
        if num_bytes > _MOST_FRAME_BYTES:
            return
        stream = int.from_bytes(head[5:], "big")
        yield _Frame(head[3], head[4], stream, _exactly(connection, num_bytes))


def _exactly(connection: socket.socket, num_bytes: int) -> bytes:
    """Read so many bytes; fewer where the connection ends."""
    data = b""
    while len(data) < num_bytes and (more := connection.recv(num_bytes - len(data))):
        data += more
    return data


def _judge(headers: bytes) -> Answer:
    """Read the status at the end of an answer; gRPC's C++ writes such fields as they are."""
    found = _STATUS.search(headers)
    status = int(found.group(1)) if found else -1
    return {_OK: Answer.LETS_IN, _UNAUTHENTICATED: Answer.REFUSES}.get(status, Answer.IS_NO_HEAD)
