"""What a port is asked before Ray joins a cluster there, and what it says for an answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.later import LATER

if LATER:
    from vxp_data.engines.ray.head_probe import Answer, ask_head


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags, *stream.to_bytes(4, "big")]) + payload
    )


# As Ray 2.60's head was heard to say it.
GREETING = (
    frame(4, 0, 0, b"\x00\x04\x00@\x00\x00") + frame(4, 1, 0) + frame(8, 0, 0, b"\x00?\x00\x01")
)
CONTENT = b"\x88@\x0ccontent-type\x10application/grpc"
WANTS_TOKEN = (
    CONTENT + b"\x00\x0bgrpc-status\x0216\x00\x0cgrpc-message>"
    b"InvalidAuthToken: Authentication token is missing or incorrect"
)
CLUSTER_ID = (
    frame(1, 4, 1, CONTENT) + frame(0, 0, 1, bytes(37)) + frame(1, 5, 1, b"@\x0bgrpc-status\x010")
)
ANSWERS = {
    "a head without a token": (GREETING + CLUSTER_ID, "lets in"),
    "a head with a token": (GREETING + frame(1, 5, 1, WANTS_TOKEN), "refuses"),
    "gRPC of something else": (
        GREETING + frame(1, 5, 1, CONTENT + b"\x00\x0bgrpc-status\x0212"),
        "is no head",
    ),
    "a web server": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "is no head"),
    "redis": (b"-ERR unknown command 'PRI'\r\n", "is no head"),
    "one that hangs up": (b"", "is no head"),
    "a server that goes away": (GREETING + frame(7, 0, 0, bytes(8)), "is no head"),
}


@contextmanager
def speaker(words: bytes, *, stays: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """Say something to whoever connects; yields the port and what was heard."""
    heard: list[bytes] = []
    ended = threading.Event()

    def speak() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(4096))
            connection.sendall(words)
            if stays:
                ended.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak)
        thread.start()
        yield listener.getsockname()[1], heard
        ended.set()
        thread.join()


@pytest.mark.parametrize("who", ANSWERS)
def test_an_answer_says_whether_a_head_lets_us_in(who: str) -> None:
    words, expected = ANSWERS[who]
    with speaker(words) as (port, _):
        assert ask_head("127.0.0.1", port, None) == expected


@pytest.mark.parametrize(("words", "expected"), [(b"", "is no head"), (GREETING, "says nothing")])
def test_silence_is_waited_for_a_few_seconds(words, expected, monkeypatch) -> None:
    monkeypatch.setattr("vxp_data.engines.ray.head_probe.TIMEOUT_S", 0.5)
    begun_s = time.monotonic()
    with speaker(words, stays=True) as (port, _):
        assert ask_head("127.0.0.1", port, None) == expected
    assert time.monotonic() - begun_s < 3


def test_nothing_at_all_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        ask_head("127.0.0.1", port, None)


@pytest.mark.parametrize("num_bytes", [1, 64, 119, 120, 300])
def test_the_token_is_shown_whole_whatever_its_length(num_bytes: int) -> None:
    with speaker(GREETING + CLUSTER_ID) as (port, heard):
        assert ask_head("127.0.0.1", port, "t" * num_bytes) is Answer.LETS_IN
    value = b"Bearer " + b"t" * num_bytes
    length = len(value)
    written = bytes([length]) if length < 127 else bytes([127, *hpack_rest(length - 127)])
    assert b"\x00\rauthorization" + written + value in heard[0]


def hpack_rest(rest: int) -> list[int]:
    """RFC 7541, 5.1, in its own words: seven bits a byte, least first, the top bit: more comes."""
    return [rest] if rest < 128 else [rest & 127 | 128, *hpack_rest(rest >> 7)]
