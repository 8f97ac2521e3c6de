"""gunicorn's HTTP with less Python for the requests that nearly everybody sends.

After an inference Python runs with cold caches, so that what counts is how much of it runs.
gunicorn looks at a head with some 150 calls; here one expression sees whether it is plain, and
whatever is not goes gunicorn's own way. An answer goes out in one piece: each call of the
kernel wakes the caller, who waits for the whole of it.
"""

import os
import re
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response, base_environ, create
from gunicorn.workers.gthread import TConn

from app.http_date import http_date

_PLAIN_NAMES = (
    "accept|accept-encoding|accept-language|authorization|cache-control|connection|"
    "content-length|content-type|host|origin|pragma|referer|user-agent"
)
"""Fields to which gunicorn gives no meaning while it parses; it checks the length later."""

_PLAIN_HEAD = re.compile(
    rb"(GET|POST) ((/(?!/)[A-Za-z0-9._/-]*)(?:\?([!\"$->@-~]*))?) HTTP/1\.1\r\n"
    rb"((?:(?i:%b):[\t -~]*\r\n)+)\r\n" % _PLAIN_NAMES.encode()
)
_FIELD = re.compile(r"([^:]+):(.*)\r\n")


class PlainRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """A request whose head is read at one go when it is plain.

    Attributes:
        is_plain: whether it was.
    """

    is_plain = False

    def parse(self, unreader: Any) -> bytes:
        """Read the head, and return what was read behind it."""
        data: bytes = unreader.read()
        plain = _PLAIN_HEAD.match(data)
        if plain is None or not self._take(plain):
            unreader.unread(data)
            rest: bytes = super().parse(unreader)
            return rest
        return data[plain.end() :]

    def _take(self, plain: re.Match[bytes]) -> bool:
        method, uri, path, query, fields = (part.decode("ascii") for part in plain.groups(b""))
        headers = [(name.upper(), value.strip(" \t")) for name, value in _FIELD.findall(fields)]
        if len({name for name, _ in headers}) < len(headers):
            return False
        self.method, self.uri, self.path, self.query = method, uri, path, query
        self.fragment, self.version, self.headers = "", (1, 1), headers
        self.is_plain = True
        return True


class PlainParser(RequestParser):  # type: ignore[misc]  # gunicorn has no types
    """Reads the requests of a connection."""

    mesg_class = PlainRequest

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Read what is left of a body; most often that is nothing."""
        body = self.mesg and self.mesg.body
        if body and isinstance(body.reader, LengthReader):
            is_read = body.reader.length == 0 and body.buf.tell() == 0
            if is_read and not body.failed:
                return True
        finished: bool = super().finish_body(deadline, max_bytes)
        return finished


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A client's connection, with a parser of ours where gunicorn's reads HTTP/1."""

    parser: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lasting: dict[str, Any] = {}

    def init(self) -> None:
        """Prepare to read; called before each request."""
        if self.initialized:
            return
        super().init()
        if type(self.parser) is RequestParser:
            self.parser = PlainParser(self.cfg, self.sock, self.client)

    def environ_of(self, request: Any) -> dict[str, Any]:
        """The WSGI environ of one of its plain requests, but for ``wsgi.early_hints``."""
        if not self._lasting:
            self._lasting = self._lasting_environ(request)
        fields = {f"HTTP_{name.replace('-', '_')}": value for name, value in request.headers}
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            if f"HTTP_{name}" in fields:
                fields[name] = fields.pop(f"HTTP_{name}")
        return {
            **self._lasting,
            **fields,
            "wsgi.input": request.body,
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.query,
            "RAW_URI": request.uri,
            "PATH_INFO": request.path,
        }

    def _lasting_environ(self, request: Any) -> dict[str, Any]:
        """What is the same for all its requests."""
        return {
            **base_environ(self.cfg),
            "gunicorn.socket": self.sock,
            "wsgi.url_scheme": request.scheme,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.client[0],
            "REMOTE_PORT": str(self.client[1]),
            "SERVER_NAME": self.server[0],
            "SERVER_PORT": str(self.server[1]),
            "SCRIPT_NAME": "",
        }


class WholeResponse(Response):  # type: ignore[misc]  # gunicorn has no types
    """A response that is sent at one go when its body comes in one piece."""

    headers_sent: bool

    def write(self, arg: bytes) -> None:
        """Send the body or a piece of it, behind the head if that was not sent."""
        is_whole = len(arg) == self.response_length and not self._omits_body and not self.upgrade
        if self.headers_sent or not is_whole:
            super().write(arg)
            return
        self.headers_sent = True
        self.sent = len(arg)
        fields = [f"{name}: {value}\r\n" for name, value in self.headers]
        head = "".join([self._own_head(), *fields, "\r\n"])
        self.sock.sendall(head.encode("latin-1") + arg)

    def _own_head(self) -> str:
        """What ``default_headers`` gives, for an answer of known length that upgrades nothing."""
        major, minor = self.req.version
        return (
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\n"
            f"Date: {http_date()}\r\n"
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n"
        )


def answer_of(request: Any, conn: Connection) -> tuple[WholeResponse, dict[str, Any]]:
    """Make the response and the environ of a request, as gunicorn's ``create`` does."""
    is_plain = getattr(request, "is_plain", False) and "SCRIPT_NAME" not in os.environ
    if is_plain and isinstance(conn.client, tuple) and isinstance(conn.server, tuple):
        return WholeResponse(request, conn.sock, conn.cfg), conn.environ_of(request)
    response, environ = create(
        request, conn.sock, conn.client, conn.server, conn.cfg, response_class=WholeResponse
    )
    return response, environ
