"""A server of chat completions that is really there, and fails as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Answers chat completions with the last word of the prompt, or as it is told."""

    def __init__(self, models: list[str] | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.failures: list[Answer] = []
        """What the next requests get instead: (status code, headers, body)."""
        self.models = models
        """What GET /models names; None: it is not known there."""
        self.num_together = 0
        """Most requests that were under way at once."""
        self._now = 0
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.gets += 1
                self._send(*owner.listed(dict(self.headers)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner.counted():
                    owner.requests.append((self.path, dict(self.headers), body))
                    answer = owner.answer(body)
                self._send(*answer)

            def _send(self, code: int, headers: dict[str, str], answer: bytes) -> None:
                try:
                    self.send_response(code)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except ConnectionError:  # whoever asked has not waited
                    pass

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    gets = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._now += 1
            self.num_together = max(self.num_together, self._now)
        yield
        with self._lock:
            self._now -= 1

    def listed(self, headers: dict[str, str]) -> Answer:
        del headers
        if self.models is None:
            return 404, {}, b"no such page"
        return 200, {}, json.dumps({"data": [{"id": name} for name in self.models]}).encode()

    def answer(self, body: dict[str, Any]) -> Answer:
        with self._lock:
            if self.failures:
                return self.failures.pop(0)
        return said(self.reply(body))

    def reply(self, body: dict[str, Any]) -> str:
        """What it says; tests put another one in its place."""
        word: str = body["messages"][-1]["content"].split()[-1]
        return word

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def said(text: str, **more: Any) -> Answer:
    """A completion with one choice."""
    choice = {"message": {"content": text}, **more}
    headers = {"Content-Type": "application/json"}
    return 200, headers, json.dumps({"choices": [choice]}).encode()


@contextmanager
def chat_server(
    models: list[str] | None = None, reply: Callable[[dict[str, Any]], str] | None = None
) -> Iterator[Server]:
    """Have one for the length of a block, which is not asked through a proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        own = Server(models)
        if reply is not None:
            own.reply = reply  # type: ignore[method-assign]
        yield own
        own.close()
