"""Many connections to one server, in one thread.

The load generator shares the machine with the server that it measures. So requests are
serialised in advance, connections are kept alive, and of an answer only the length, the
error_code and the stages are parsed.
"""

import re
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from app.bench.result import NO_ANSWER, LoadResult
from app.system.endpoint import Endpoint

ANSWER_TIMEOUT_S = 60

STAGE_SAMPLE = 8
"""One in this many answers is parsed for its stages."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODE = re.compile(rb'"error_code": *(\d+)')
_TIMING = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.IGNORECASE)
_STAGE = re.compile(rb"([a-z0-9_]+);dur=([0-9.]+)")
_RECEIVE_BYTES = 65536
_SEND_BUFFER_BYTES = 4 * 1024 * 1024
_EMPTY = memoryview(b"")
_NOT_READY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class Target(Endpoint):
    """The server and the requests of a load; the bodies are sent in turn."""

    bodies: Sequence[bytes]
    content_type: str = "application/json"

    def requests(self) -> list[bytes]:
        """The complete HTTP requests."""
        fields = {"Host": self.authority, "Content-Type": self.content_type, **self.headers}
        lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
        head = f"POST {self.path} HTTP/1.1\r\n{''.join(lines)}Content-Length: "
        return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in self.bodies]


@dataclass(eq=False)
class _Connection:
    peer: socket.socket
    pending: memoryview = _EMPTY
    received: bytearray = field(default_factory=bytearray)
    needed: int = 0
    started: float = 0.0
    must_close: bool = False
    polls_writable: bool = True
    is_open: bool = True


class Connections:
    """Connections on one epoll; they send every ``step``-th request from index ``first`` on.

    Raises:
        OSError: the host name cannot be resolved.
        OperatorError: see Trust.context.
    """

    def __init__(self, target: Target, result: LoadResult, first: int = 0, step: int = 1) -> None:
        self._address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)[0]
        self._host = target.host
        self._tls = target.trust.context() if target.trust else None
        self._requests: Iterator[bytes] = islice(cycle(target.requests()), first, None, step)
        self._result = result
        self._epoll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._seen = 0
        self.counts_in_time = True

    def in_flight(self) -> int:
        """Number of requests without an answer."""
        return len(self._busy)

    def has_idle(self) -> bool:
        """Whether a request can be sent without opening a connection."""
        return bool(self._idle)

    def send(self, due: float) -> None:
        """Send the next request, whose latency starts at the time.perf_counter() ``due``."""
        self._result.sent += 1
        connection = self._idle.popleft() if self._idle else self._connect()
        if connection is None:
            self._result.add(NO_ANSWER, (time.perf_counter() - due) * 1000)
            return
        connection.pending = memoryview(next(self._requests))
        connection.started = due
        connection.received.clear()
        connection.needed = 0
        self._busy[connection.peer.fileno()] = connection
        if not connection.polls_writable:
            self._write(connection)

    def poll(self, timeout_s: float) -> None:
        """Send and receive what is ready, waiting at most ``timeout_s`` for the first event."""
        for number, event in self._epoll.poll(max(0.0, timeout_s)):
            connection = self._busy.get(number)
            if connection is None:
                self._drop_idle(number)
            elif not connection.is_open:
                self._shake_hands(connection)
            elif event & select.EPOLLOUT and connection.pending:
                self._write(connection)
            else:
                self._read(connection)

    def close(self) -> None:
        """Close every connection; requests without an answer are not counted."""
        for connection in [*self._busy.values(), *self._idle]:
            connection.peer.close()
        self._epoll.close()

    def fail_stalled(self, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Count requests as failed that have had no answer for ``timeout_s``."""
        limit = time.perf_counter() - timeout_s
        for connection in [each for each in self._busy.values() if each.started <= limit]:
            self._finish(connection, NO_ANSWER, must_close=True)

    def _connect(self) -> _Connection | None:
        """Start to connect without waiting, which would delay other requests that are due."""
        family, kind, protocol, _, address = self._address
        peer = socket.socket(family, kind, protocol)
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            peer.setblocking(False)
            peer.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            peer.close()
            return None
        self._epoll.register(peer.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return _Connection(peer, is_open=self._tls is None)

    def _shake_hands(self, connection: _Connection) -> None:
        """Take the next step of the TLS handshake of a new connection."""
        try:
            if self._tls and not isinstance(connection.peer, ssl.SSLSocket):
                connection.peer.getpeername()  # an OSError if it could not connect
                connection.peer = self._tls.wrap_socket(
                    connection.peer, server_hostname=self._host, do_handshake_on_connect=False
                )
            if isinstance(connection.peer, ssl.SSLSocket):
                connection.peer.do_handshake()
        except ssl.SSLWantReadError:
            self._poll_writable(connection, False)
        except ssl.SSLWantWriteError:
            self._poll_writable(connection, True)
        except OSError:
            self._finish(connection, NO_ANSWER, must_close=True)
        else:
            connection.is_open = True
            self._poll_writable(connection, True)

    def _write(self, connection: _Connection) -> None:
        try:
            sent = connection.peer.send(connection.pending)
        except _NOT_READY:
            sent = 0
        except OSError:
            # The server may have answered and closed before it read the body.
            sent, connection.must_close = len(connection.pending), True
        connection.pending = connection.pending[sent:]
        self._poll_writable(connection, bool(connection.pending))

    def _poll_writable(self, connection: _Connection, writable: bool) -> None:
        if writable != connection.polls_writable:
            connection.polls_writable = writable
            events = select.EPOLLIN | (select.EPOLLOUT if writable else 0)
            self._epoll.modify(connection.peer.fileno(), events)

    def _read(self, connection: _Connection) -> None:
        try:
            piece = connection.peer.recv(_RECEIVE_BYTES)
        except _NOT_READY:
            return
        except OSError:
            piece = b""
        if not piece:
            self._finish(connection, NO_ANSWER, must_close=True)
            return
        connection.received += piece
        if not connection.needed:
            connection.needed = _answer_length(connection.received)
        if connection.needed and len(connection.received) >= connection.needed:
            self._finish(connection, *self._parse_answer(bytes(connection.received)))

    def _parse_answer(self, answer: bytes) -> tuple[int, bool]:
        """The error_code of an answer, and whether the server closes the connection."""
        head, _, body = answer.partition(b"\r\n\r\n")
        code = find_error_code(body) or _http_failure(head)
        if not code:
            self._result.last_answer = body
            self._result.results_in_time += self.counts_in_time
            self._seen += 1
            if self._seen % STAGE_SAMPLE == 0 and (timing := _TIMING.search(head)):
                for name, milliseconds in _STAGE.findall(timing[1]):
                    stages = self._result.stages_ms.setdefault(name.decode(), [])
                    stages.append(float(milliseconds))
        return code, b"connection: close" in head.lower()

    def _finish(self, connection: _Connection, code: int, must_close: bool) -> None:
        self._result.add(code, (time.perf_counter() - connection.started) * 1000)
        del self._busy[connection.peer.fileno()]
        if must_close or connection.must_close or connection.pending:
            self._epoll.unregister(connection.peer.fileno())
            connection.peer.close()
        else:
            self._idle.append(connection)

    def _drop_idle(self, number: int) -> None:
        for connection in [each for each in self._idle if each.peer.fileno() == number]:
            self._idle.remove(connection)
            self._epoll.unregister(number)
            connection.peer.close()


def find_error_code(body: bytes) -> int:
    """The error_code of an answer; 0 for a result."""
    found = _CODE.search(body)
    return int(found[1]) if found else 0


def _answer_length(received: bytearray) -> int:
    """Bytes of the whole answer; 0 until its headers are complete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = _LENGTH.search(received, 0, end)
    return end + 4 + (int(length[1]) if length else 0)


def _http_failure(head: bytes) -> int:
    """0 for status 2xx, else the status: other servers send no error_code."""
    status = head[9:12]
    return 0 if status.startswith(b"2") else int(status) if status.isdigit() else NO_ANSWER
