"""A load generator in one thread: it shares the machine with what it measures.

Requests are bytes made beforehand, connections are kept alive, and an answer is looked at
just as far as to find its end and its error_code.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

ANSWER_TIMEOUT_S = 60
NO_ANSWER = -1
"""In place of an error_code: the connection was refused, closed or silent for too long."""

MAX_OPEN_CONNECTIONS = 512
"""Of an open loop; when all are busy the next request waits, and its time runs."""

STAGE_SAMPLE = 8
"""The stages are read from every so many answers."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODE = re.compile(rb'"error_code": *(\d+)')
_TIMING = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.IGNORECASE)
_STAGE = re.compile(rb"([a-z0-9_]+);dur=([0-9.]+)")
_RECEIVE_BYTES = 65536
_SEND_BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """Where to send the load, and what.

    Attributes:
        host: name or address.
        port: TCP port.
        path: with the deploy name, such as ``/imagenet/ImageClassification``.
        bodies: request bodies, sent in turn.
    """

    host: str
    port: int
    path: str
    bodies: Sequence[bytes]
    content_type: str = "application/json"

    def requests(self) -> list[bytes]:
        """The bodies as whole HTTP requests."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: "
        )
        return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in self.bodies]


@dataclass
class LoadResult:
    """What was answered.

    Attributes:
        duration_s: how long load was sent.
        latencies_ms: time to the whole answer, by error_code; 0 is a result. In an open loop
            from when the request was due, so that no late sending flatters the server.
        stages_ms: samples of the server's own stages.
        last_answer: the last result's body.
    """

    duration_s: float = 0.0
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    last_answer: bytes = b""

    def answered(self) -> list[float]:
        """The latencies of the results."""
        return self.latencies_ms.get(0, [])

    def throughput(self) -> float:
        """Results in a second."""
        return len(self.answered()) / self.duration_s if self.duration_s else 0.0

    def add(self, code: int, latency_ms: float) -> None:
        """Count an answer."""
        self.latencies_ms.setdefault(code, []).append(latency_ms)


@dataclass(eq=False)
class _Connection:
    peer: socket.socket
    pending: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytearray = field(default_factory=bytearray)
    needed: int = 0
    started: float = 0.0
    must_close: bool = False


class _Loop:
    """Connections on one epoll; see the two functions below for how it is driven."""

    def __init__(self, target: Target, result: LoadResult) -> None:
        self._address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)[0]
        self._requests: Iterator[bytes] = cycle(target.requests())
        self._result = result
        self._epoll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._seen = 0
        self.idle: deque[_Connection] = deque()

    def count(self) -> int:
        """Connections that are open."""
        return len(self._busy) + len(self.idle)

    def busy(self) -> int:
        """Requests that wait for their answer."""
        return len(self._busy)

    def send(self, due: float) -> None:
        """Send the next request, on an idle connection if there is one."""
        connection = self.idle.popleft() if self.idle else self._connect()
        if connection is None:
            self._result.add(NO_ANSWER, (time.perf_counter() - due) * 1000)
            return
        connection.pending = memoryview(next(self._requests))
        connection.started = due
        connection.received.clear()
        connection.needed = 0
        self._busy[connection.peer.fileno()] = connection
        self._write(connection)

    def turn(self, wait_s: float) -> None:
        """Move what can be moved, waiting at most so long for the first event."""
        for number, event in self._epoll.poll(max(0.0, wait_s)):
            connection = self._busy.get(number)
            if connection is None:
                self._drop_idle(number)
            elif event & select.EPOLLOUT and connection.pending:
                self._write(connection)
            else:
                self._read(connection)

    def close(self) -> None:
        """Close every connection; what has no answer yet is not counted."""
        for connection in [*self._busy.values(), *self.idle]:
            connection.peer.close()
        self._epoll.close()

    def fail_silent(self) -> None:
        """Count requests without an answer for too long as failed."""
        limit = time.perf_counter() - ANSWER_TIMEOUT_S
        for connection in [each for each in self._busy.values() if each.started < limit]:
            self._finish(connection, NO_ANSWER, must_close=True)

    def _connect(self) -> _Connection | None:
        family, kind, protocol, _, address = self._address
        peer = socket.socket(family, kind, protocol)
        try:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            peer.settimeout(ANSWER_TIMEOUT_S)
            peer.connect(address)
        except OSError:
            peer.close()
            return None
        peer.setblocking(False)
        self._epoll.register(peer.fileno(), select.EPOLLIN)
        return _Connection(peer)

    def _write(self, connection: _Connection) -> None:
        try:
            sent = connection.peer.send(connection.pending)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The server may have answered and closed before it took the body.
            connection.pending, connection.must_close = memoryview(b""), True
            self._epoll.modify(connection.peer.fileno(), select.EPOLLIN)
            return
        had_rest = connection.needed == 0 and sent < len(connection.pending)
        connection.pending = connection.pending[sent:]
        self._epoll.modify(
            connection.peer.fileno(), select.EPOLLIN | (select.EPOLLOUT if had_rest else 0)
        )

    def _read(self, connection: _Connection) -> None:
        try:
            piece = connection.peer.recv(_RECEIVE_BYTES)
        except BlockingIOError:
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
            self._finish(connection, *self._look_at(bytes(connection.received)))

    def _look_at(self, answer: bytes) -> tuple[int, bool]:
        """The error_code of an answer, and whether the server closes the connection."""
        head, _, body = answer.partition(b"\r\n\r\n")
        found = _CODE.search(body)
        code = int(found[1]) if found else _http_failure(head)
        if not code:
            self._result.last_answer = body
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
            self.idle.append(connection)

    def _drop_idle(self, number: int) -> None:
        for connection in [each for each in self.idle if each.peer.fileno() == number]:
            self.idle.remove(connection)
            self._epoll.unregister(number)
            connection.peer.close()


def _answer_length(received: bytearray) -> int:
    """Bytes of the whole answer, 0 as long as its head is not complete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = _LENGTH.search(received, 0, end)
    return end + 4 + (int(length[1]) if length else 0)


def _http_failure(head: bytes) -> int:
    """0 for an answer with status 2xx, else the status: peers have no error_code."""
    status = head[9:12]
    return 0 if status.startswith(b"2") else int(status) if status.isdigit() else NO_ANSWER


Progress = Callable[[LoadResult, float], None]


def closed_loop(
    target: Target,
    connections: int,
    duration_s: float,
    progress: Progress = lambda _result, _elapsed_s: None,
) -> LoadResult:
    """Keep so many requests in flight: the next is sent when an answer has come.

    Args:
        target: the server and the requests.
        connections: how many.
        duration_s: for how long.
        progress: is told about once a second.
    """
    result = LoadResult()
    loop = _Loop(target, result)
    started = time.perf_counter()
    end, told = started + duration_s, started
    while (now := time.perf_counter()) < end:
        while loop.busy() < connections:
            loop.send(time.perf_counter())
            if NO_ANSWER in result.latencies_ms and not loop.busy():
                time.sleep(0.01)  # nobody listens at the moment
                break
        loop.turn(min(0.25, end - now))
        if now - told >= 1:
            told = now
            loop.fail_silent()
            progress(result, now - started)
    result.duration_s = time.perf_counter() - started
    loop.close()
    return result


def open_loop(
    target: Target,
    rate: float,
    duration_s: float,
    progress: Progress = lambda _result, _elapsed_s: None,
) -> LoadResult:
    """Send at a given rate, whether answers come or not, as many independent clients do.

    Args:
        target: the server and the requests.
        rate: requests in a second.
        duration_s: for how long.
        progress: is told about once a second.
    """
    result = LoadResult()
    loop = _Loop(target, result)
    started = time.perf_counter()
    end, told, sent = started + duration_s, started, 0
    while (now := time.perf_counter()) < end:
        due = started + sent / rate
        if due <= now and (loop.idle or loop.count() < MAX_OPEN_CONNECTIONS):
            loop.send(due)
            sent += 1
            loop.turn(0)
        else:
            loop.turn(min(0.25, max(0.0005, due - now)))
        if now - told >= 1:
            told = now
            loop.fail_silent()
            progress(result, now - started)
    result.duration_s = time.perf_counter() - started
    loop.close()
    return result
