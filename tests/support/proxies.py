"""Real reverse proxies in front of a test server, with the examples of ``deploy/``."""

import csv
import io
import os
import socket
import ssl
import subprocess
from collections.abc import Sequence
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Self

from app.settings import PROJECT_ROOT
from tests.support.certificates import make_certificate
from tests.support.server import Answer, free_port
from tests.support.tools import find_program
from tests.support.waiting import wait_until

PREFIX = "/vision"


class Proxy:
    """A proxy with one of the examples, changed to free ports and a temporary folder.

    Args:
        folder: for its files.
        server_port: where the server listens.
        with_prefix: whether the lines for a prefix are active.
        changes: other texts in the example with their replacements, such as a shorter timeout.
    """

    program: str
    example: str

    def __init__(
        self,
        folder: Path,
        server_port: int,
        with_prefix: bool = False,
        changes: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.folder, self.port = folder, free_port()
        self._make_certificates()
        text = (PROJECT_ROOT / "deploy" / self.example).read_text(encoding="utf-8")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server_port}")
        text = text.replace(f"/etc/{self.program}/tls", str(folder))
        text = text.replace("/run/haproxy", str(folder))
        if with_prefix:
            lines = text.splitlines(keepends=True)
            text = "".join(line.replace("# ", "") if PREFIX in line else line for line in lines)
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        self._configuration = folder / self.example
        self._configuration.write_text(self._complete(text), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def _make_certificates(self) -> None:
        raise NotImplementedError

    def _complete(self, text: str) -> str:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [find_program(self.program), *self._command()], stderr=subprocess.DEVNULL
        )
        try:
            wait_until(self._listens, self.program)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_failure: object) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()

    def _listens(self) -> bool:
        try:
            self.request("GET", "/healthz")
        except OSError:
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request over TLS."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            return _read(connection.getresponse())
        finally:
            connection.close()

    def connect(self, timeout_s: float = 60) -> HTTPSConnection:
        """Make a connection object, to be closed by the caller; its first request connects."""
        return HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=_trust())

    def send(self, data: bytes, with_tls: bool = True) -> Answer:
        """Send bytes, which need not be HTTP, and read one response."""
        client = socket.create_connection(("127.0.0.1", self.port), 60)
        if with_tls:
            client = _trust().wrap_socket(client)
        with client:
            client.sendall(data)
            response = HTTPResponse(client)
            response.begin()
            return _read(response)


def _trust() -> ssl.SSLContext:
    return ssl._create_unverified_context()  # noqa: S323 - our own certificate of now


def _read(response: HTTPResponse) -> Answer:
    return Answer(response.status, dict(response.getheaders()), response.read())


class Nginx(Proxy):
    """nginx with ``deploy/nginx.conf``."""

    program, example = "nginx", "nginx.conf"

    def _make_certificates(self) -> None:
        certificate, key = make_certificate(self.folder)
        certificate.rename(self.folder / "classifyd.crt")
        key.rename(self.folder / "classifyd.key")

    def _complete(self, site: str) -> str:
        site = site.replace("listen 443", f"listen 127.0.0.1:{self.port}")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        # By default its workers run as another account, which cannot enter pytest's folders.
        account = "user root;" if os.geteuid() == 0 else ""
        log = f"error_log {self.folder}/error.log;"
        return (
            f"daemon off; pid {self.folder}/pid; {log} {account} events {{}}\n"
            f"http {{ access_log off;\n{temporary}{site}}}\n"
        )

    def _command(self) -> list[str]:
        return ["-e", str(self.folder / "error.log"), "-c", str(self._configuration)]


class Haproxy(Proxy):
    """HAProxy with ``deploy/haproxy.cfg``."""

    program, example = "haproxy", "haproxy.cfg"

    def _make_certificates(self) -> None:
        certificate, key = make_certificate(self.folder)
        both = certificate.read_bytes() + key.read_bytes()
        (self.folder / "classifyd.pem").write_bytes(both)

    def _complete(self, text: str) -> str:
        return text.replace("bind :443", f"bind 127.0.0.1:{self.port}")

    def _command(self) -> list[str]:
        return ["-db", "-f", str(self._configuration)]

    def command(self, text: str) -> str:
        """Send a command to its runtime API, and return what it answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.folder / "admin.sock"))
            client.sendall(text.encode() + b"\n")
            return client.makefile().read()

    def held_by(self, node: str) -> int:
        """How many requests a node is answering."""
        rows = csv.DictReader(io.StringIO(self.command("show stat")))
        return next(int(row["scur"]) for row in rows if row["svname"] == node)
