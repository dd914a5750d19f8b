"""A run's figures over HTTP, in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vxp_data.errors import UserError

Figures = Callable[[], Mapping[str, float]]


class _Handler(BaseHTTPRequestHandler):
    figures: Figures

    def do_GET(self) -> None:
        """Answer with all figures, at /metrics alone."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        body = "".join(f"# TYPE {name} gauge\n{name} {value!r}\n" for name, value in self._items())
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _items(self) -> list[tuple[str, float]]:
        return sorted(type(self).figures().items())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Print nothing where a client goes away."""


@contextmanager
def metrics_endpoint(port: int, figures: Figures) -> Iterator[int]:
    """Serve figures at /metrics for the length of a block; return the port.

    Args:
        port: on all interfaces; 0: any free one.
        figures: called at each request.

    Raises:
        UserError: the port is in use.
    """
    handler = type("Handler", (_Handler,), {"figures": staticmethod(figures)})
    try:
        server = _Server(("", port), handler)
    except OSError as error:
        raise UserError(
            f"cluster.metrics_port is {port}, which cannot be listened at: {error.strerror}. Take "
            "another, 0 for any free one, or leave it out."
        ) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
