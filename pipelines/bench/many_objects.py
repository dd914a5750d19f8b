"""An S3 server of millions of objects that are nowhere: it answers from arithmetic.

Object i of the bucket is `videos/<i as 8 digits>.mp4`, of i % 1000 bytes. It knows two requests,
ListObjectsV2 (prefix, start-after, continuation-token, max-keys; delimiter '/') and HEAD, waits a
while before each answer, and counts them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

BUCKET: Final = "many"
FOLDER: Final = "videos/"
_DIGITS: Final = 8
_CHANGED: Final = "2026-01-01T00:00:00.000Z"


@dataclass
class ManyObjects:
    """The server's objects, and what it was asked for."""

    num_objects: int
    latency_s: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    """By method."""
    lock: Any = field(default_factory=threading.Lock)

    def uri(self, number: int) -> str:
        """Return the URI of an object."""
        return f"s3://{BUCKET}/{key_of(number)}"

    def version(self, number: int) -> str:
        """Return what `file_versions` says of it: the independent truth."""
        return f"{number % 1000}-e{number}"

    def page(self, query: dict[str, str]) -> str:
        """Answer a listing."""
        first = 0
        after = query.get("continuation-token") or query.get("start-after", "")
        if after > FOLDER:
            first = self._first_after(after)
        if not key_of(0).startswith(query.get("prefix", "")):
            first = self.num_objects
        end = min(self.num_objects, first + int(query.get("max-keys", "1000")))
        truncated = end < self.num_objects
        token = f"<NextContinuationToken>{key_of(end - 1)}</NextContinuationToken>"
        return (
            "<?xml version='1.0'?>"
            "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{token if truncated else ''}"
            + "".join(map(_entry, range(first, end)))
            + "</ListBucketResult>"
        )

    def _first_after(self, text: str) -> int:
        low, high = 0, self.num_objects
        while low < high:
            middle = (low + high) // 2
            if key_of(middle) > text:
                high = middle
            else:
                low = middle + 1
        return low


def key_of(number: int) -> str:
    """Return the key of an object."""
    return f"{FOLDER}{number:0{_DIGITS}d}.mp4"


def _entry(number: int) -> str:
    return (
        f"<Contents><Key>{key_of(number)}</Key><LastModified>{_CHANGED}</LastModified>"
        f"<ETag>&quot;e{number}&quot;</ETag><Size>{number % 1000}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: ManyObjects

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def begin(self) -> None:
        with self.objects.lock:
            self.objects.requests[self.command] += 1
        time.sleep(self.objects.latency_s)

    def do_GET(self) -> None:
        self.begin()
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        body = self.objects.page(query).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.begin()
        name = urlsplit(self.path).path.removeprefix(f"/{BUCKET}/{FOLDER}").removesuffix(".mp4")
        is_there = name.isdecimal() and int(name) < self.objects.num_objects
        self.send_response(200 if is_there else 404)
        if is_there:
            self.send_header("Content-Length", str(int(name) % 1000))
            self.send_header("ETag", f'"e{int(name)}"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def many_objects(num_objects: int, latency_s: float = 0.0) -> Iterator[tuple[int, ManyObjects]]:
    """Serve that many objects in threads of this process; return its port, and them."""
    objects = ManyObjects(num_objects, latency_s)
    handler = type("Handler", (_Handler,), {"objects": objects})
    with _Listener(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener.server_port, objects
        listener.shutdown()
