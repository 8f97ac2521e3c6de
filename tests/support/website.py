"""A web server that is not classifyd."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.server import Server


@contextmanager
def website(body: bytes = b"", content_type: str = "text/html") -> Iterator[str]:
    """Answer every request with the same body; yields the origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with _serving(Handler) as origin:
        yield origin


@dataclass
class Balancer:
    """A proxy in front of a server.

    Attributes:
        origin: where it listens.
        times_s: when each request came, by time.monotonic().
        clients: the addresses of the connections.
    """

    origin: str = ""
    times_s: list[float] = field(default_factory=list)
    clients: set[tuple[str, int]] = field(default_factory=set)


@contextmanager
def balancer(server: Server, paths: list[str], retry_after_s: int = 1) -> Iterator[Balancer]:
    """Forward each POST to the next of the paths of a server, and the rest to the last one."""
    balanced = Balancer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            balanced.times_s.append(time.monotonic())
            balanced.clients.add(self.client_address)
            path = paths[min(len(balanced.times_s), len(paths)) - 1]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = server.request("POST", path, body)
            self.send_response(answer.status)
            answer.headers.pop("Connection", None)  # of another connection
            for name, value in answer.headers.items():
                self.send_header(name, str(retry_after_s) if name == "Retry-After" else value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with _serving(Handler) as balanced.origin:
        yield balanced


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:
            site.shutdown()
            thread.join()
