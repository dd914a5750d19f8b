"""A real S3 HTTP server for tests (moto, in its own process), behind a proxy that injects faults.

The proxy's address is the endpoint of the whole test session, so that Ray's workers, started once,
find it too; the server behind it starts with the first bucket.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the tests are over, however they end
"""
_ERROR_BODY = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
_CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass
class Fault:
    """What goes wrong with requests that match, `times` times.

    Kinds: 'status' answers with an error; 'cut' ends the body and the connection half-way; 'short'
    sends half of the body as if it were all; 'silent' says nothing for `seconds`; 'lost' does what
    was asked, and the answer never comes; 'late' does it `seconds` later, and well.
    """

    kind: str
    method: str = ".*"
    path: str = ".*"
    times: int = 1
    status: int = 500
    seconds: float = 5.0
    met: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Whether it strikes, and count it."""
        if self.met >= self.times or not re.fullmatch(self.method, method):
            return False
        if not re.search(self.path, path):
            return False
        self.met += 1
        return True


@dataclass
class Request:
    """One request as the proxy saw it."""

    method: str
    path: str
    range: str
    bytes_sent: int


@dataclass
class Proxy:
    """Passes requests on to the server, but for those that a fault strikes."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    server_port: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def strike(self, method: str, path: str) -> Fault | None:
        with self.lock:
            return next((f for f in self.faults if f.matches(method, path)), None)

    def upstream(self, handler: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        with contextlib.closing(connection):
            connection.request(handler.command, handler.path, body, dict(handler.headers.items()))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_any(self) -> None:
        fault = self.proxy.strike(self.command, self.path)
        if fault and fault.kind == "silent":
            time.sleep(fault.seconds)
            self.close_connection = True
            return
        if fault and fault.kind == "late":
            time.sleep(fault.seconds)
            fault = None
        if fault and fault.kind == "status":
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = _ERROR_BODY.format(code=_CODES[fault.status]).encode()
            self.answer(fault.status, [("Content-Type", "application/xml")], body, None)
            return
        status, headers, body = self.proxy.upstream(self)
        if fault and fault.kind == "lost":
            self.close_connection = True
            return
        self.answer(status, headers, body, fault)

    def answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault | None
    ) -> None:
        sent = body[: len(body) // 2] if fault else body
        announced = len(sent) if fault and fault.kind == "short" else len(body)
        self.send_response(status)
        for name, value in headers:
            is_length = name.lower() == "content-length"
            if name.lower() not in _HOP_BY_HOP and not (is_length and self.command != "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
        with self.proxy.lock:
            self.proxy.requests.append(
                Request(self.command, self.path, self.headers.get("Range", ""), len(sent))
            )
        if fault and fault.kind == "cut":
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Log nothing: clients go away when their time is up."""


@contextlib.contextmanager
def proxy_endpoint() -> Iterator[tuple[str, Proxy]]:
    """Start the proxy on a free port; the server behind it is not there yet."""
    proxy = Proxy()
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Listener(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}", proxy
        listener.shutdown()


@contextlib.contextmanager
def s3_server(proxy: Proxy) -> Iterator[None]:
    """Start the S3 server behind the proxy."""
    command = [sys.executable, "-c", _SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        proxy.server_port = int(process.stdout.readline())
        yield
        process.kill()


def s3_environment(endpoint: str, patch: pytest.MonkeyPatch) -> None:
    """Point every S3 client of this process and of those it starts to the endpoint."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }.items():
        patch.setenv(name, value)


class Bucket:
    """A fresh bucket; what a test does with it by itself goes past the proxy and our own code."""

    def __init__(self, proxy: Proxy) -> None:
        import boto3

        self.name = f"test-{secrets.token_hex(6)}"
        self.uri = f"s3://{self.name}"
        self._proxy = proxy
        address = f"http://127.0.0.1:{proxy.server_port}"
        self.client = boto3.client("s3", endpoint_url=address)
        self.client.create_bucket(Bucket=self.name)
        proxy.faults.clear()
        proxy.requests.clear()

    def fail(self, kind: str, **how: Any) -> Fault:
        """Inject a fault into requests to this bucket; see `Fault`."""
        how["path"] = f"{self.name}.*{how.get('path', '')}"
        fault = Fault(kind, **how)
        self._proxy.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Restore normal answers."""
        self._proxy.faults.clear()

    @property
    def requests(self) -> list[Request]:
        """What has been asked of this bucket so far, and answered."""
        with self._proxy.lock:
            return [r for r in self._proxy.requests if f"/{self.name}" in r.path]

    def put(self, key: str, data: bytes) -> str:
        """Store an object; return its URI."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.uri}/{key}"

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def listing(self, prefix: str = "") -> list[str]:
        """List the keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def uploads(self) -> list[str]:
        """List the keys of multipart uploads that are neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["Key"] for upload in found]
