"""gunicorn's gevent worker: I/O in greenlets, nothing monkey-patched, errors in JSON.

What it relies on beyond gunicorn's documented settings, held by tests/unit/test_worker_base.py:

- ``GeventWorker.patch``, which replaces the listening sockets and would patch the standard library;
- ``GeventWorker.notify``, called once a second, also while the worker drains;
- ``GeventWorker.run``, which accepts into a pool of ``worker_connections`` greenlets, calls
  ``handle`` for each connection, and on ``alive = False`` waits for them;
- ``Worker.load_wsgi``, ``wsgi``, ``alive``, ``cfg``, ``log``, ``sockets``, ``nr``,
  ``max_requests``, ``worker_connections``;
- ``Arbiter.WORKER_BOOT_ERROR``, and the classes of ``gunicorn.http.errors``;
- ``gunicorn.http.get_parser``: an iterator of requests whose ``unreader`` has ``take_buffered``
  and ``unread``; of a request ``should_close``, and of a body of known length ``reader.length``;
- ``gunicorn.http.wsgi.create``, which makes a WSGI environ with the key ``wsgi.input``, and a
  response whose ``status``, ``headers`` and ``sent`` are for hooks and ``Logger.access``;
- of gevent ``Timeout``, ``hub.loop.run_callback_threadsafe``,
  ``event.AsyncResult``, ``socket.wait_read``, ``ssl.SSLContext``, and of ``StreamServer``
  ``do_read``, ``max_accept``, ``is_fatal_error``, ``started``, ``stop_accepting``,
  ``start_accepting``, ``wrap_socket_and_handle`` and ``wrap_socket`` (``app.server.listener``,
  ``app.server.tls``).
"""

import logging
import socket
import sys
import time
from contextlib import suppress
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache, partial
from typing import Any

import gevent
import gevent.socket
from gunicorn import SERVER
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.http import get_parser
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.http.wsgi import create
from gunicorn.workers.ggevent import GeventWorker

from app.errors import OperatorError
from app.limits.lease import Lease
from app.server.balance import Balance
from app.server.connection import Connection
from app.server.listener import Listener
from app.server.tls import TlsContext

HEAD_END = b"\r\n\r\n"

RECEIVE_BYTES = 8192
"""Maximum that is received at once where a request begins. A client may send the next requests
ahead, and a connection holds so much of them."""

RECEIVE_BYTES_OF_FEW = 256 * 1024
"""The same while there are at most FEW_CONNECTIONS: most requests take one system call."""

FEW_CONNECTIONS = 128
"""They hold 32 MiB at most."""

SPARE_CONNECTIONS = 64
"""Below ``worker_connections`` at which the slowest connection makes room for a new one."""

CLOSED_AT_ONCE = 8
"""Connections that make room when the system refuses one, as without files."""

REMIND_S = 60
"""How often it is logged."""

BOOT_FAILURE_S = 10
"""How long a worker that cannot serve waits for the first one to fail, and the master to stop."""

_STATUS_LINES: dict[type[BaseException], str] = {
    LimitRequestLine: "414 URI Too Long",
    LimitRequestHeaders: "431 Request Header Fields Too Large",
    gevent.Timeout: "408 Request Timeout",
    ParseException: "400 Bad Request",
    BaseException: "500 Internal Server Error",
}


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves each connection in a greenlet, with a deadline for each of its phases."""

    balance = Balance()  # of all workers: the master imports this before it forks
    slot = 0
    alive: bool
    sockets: list[Any]
    tls: TlsContext | None = None  # Listener sets it

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._connections = 0
        # In the order in which they began to wait; the value: nothing of a request has arrived.
        self._waiting: dict[Connection, bool] = {}
        self._logged_at = -float(REMIND_S)

    def patch(self) -> None:
        """Make the listening sockets cooperative, and leave the standard library alone."""
        self.sockets = [
            gevent.socket.socket(each.FAMILY, socket.SOCK_STREAM, fileno=each.sock.detach())
            for each in self.sockets
        ]

    def run(self) -> None:
        """Accept connections until the master or ``max_requests`` ends the worker."""
        self.server_class = partial(Listener, self)
        self._count_connection(0)
        super().run()

    def load_wsgi(self) -> None:
        """Load the app; a failure that the operator can fix ends the server with its text."""
        try:
            super().load_wsgi()
        except OperatorError as exc:
            self.log.error("%s", exc)
            self._wait_for_shutdown()
            sys.exit(Arbiter.WORKER_BOOT_ERROR if self.alive else 0)

    def _wait_for_shutdown(self) -> None:
        """Leave it to the first worker to end the server.

        The master handles one such failure; a second one while it stops ends it with a traceback.
        """
        end = time.monotonic() + (BOOT_FAILURE_S if self.slot else 0)
        while self.alive and time.monotonic() < end:
            time.sleep(0.05)

    def notify(self) -> None:
        """Tell the master that the event loop runs; close idle connections while draining."""
        super().notify()
        # Without new connections nothing else would do it.
        self._make_room(self._excess_connections())
        if self.tls and self.tls.refresh():
            self._show_certificate(self.tls)
        if not self.alive:
            self.balance.clear(self.slot)
            for connection in [each for each, is_idle in self._waiting.items() if is_idle]:
                connection.end_reading()

    def use_tls(self, context: TlsContext) -> None:
        """Serve the certificate of a context; called before the first connection."""
        self.tls = context
        self._show_certificate(context)

    def _show_certificate(self, context: TlsContext) -> None:
        if context.not_after is not None:
            self.wsgi.metrics.show_certificate(self.cfg.certfile, context.not_after)

    def handle(self, address: Any, client: Any, addr: Any) -> None:
        """Serve the requests of a connection until it ends.

        Args:
            address: of the listening socket.
            client: the socket of the connection.
            addr: the client's address.
        """
        self._count_connection(1)
        if self._excess_connections() > 0:
            self._make_room(1)
        connection = Connection(client)
        try:
            self._shake_hands(connection)
            parser = get_parser(self.cfg, client, addr)
            while request := self._next_request(parser, connection):
                if not self._shed(request, connection, addr):
                    self._answer(request, connection, addr, address)
        except (OSError, StopIteration, gevent.GreenletExit):
            self.log.debug("a connection has ended")
        except (Exception, gevent.Timeout) as exc:
            self._answer_failure(connection, addr, exc)
        finally:
            connection.close()
            self._count_connection(-1)

    def note_refused(self, reason: OSError) -> None:
        """Close some connections, because the system refuses to accept one."""
        self._make_room(CLOSED_AT_ONCE)
        if time.monotonic() >= self._logged_at + REMIND_S:
            self._logged_at = time.monotonic()
            self.log.error("no connection can be accepted: %s", reason.strerror)

    def _answer_failure(self, connection: Connection, addr: Any, exc: BaseException) -> None:
        """Answer what never became a request; gunicorn would write the exception's text."""
        is_fault_of_client = isinstance(exc, ParseException | gevent.Timeout)
        if not is_fault_of_client:
            self.log.error("a connection failed", exc_info=exc)
        status_line = next(line for kind, line in _STATUS_LINES.items() if isinstance(exc, kind))
        detail = f"the HTTP request could not be read: {type(exc).__name__}"
        answer = self.wsgi.answer_malformed(detail, _host_of(addr), is_fault_of_client)
        with suppress(OSError):
            self._send(connection, answer._replace(status=status_line), False)

    def _shed(self, request: Any, connection: Connection, addr: Any) -> bool:
        """Refuse a request on its head alone under overload; say whether that was done.

        Neither gunicorn's hooks nor ``max_requests`` nor its access log take notice of it.
        """
        shed = self.wsgi.shed(request, connection, _host_of(addr))
        if shed is None:
            return False
        answer, body = shed
        keeps = self.alive
        self._send(connection, answer, keeps)
        body.discard()
        if not keeps or body.is_unfinished:
            raise StopIteration
        gevent.sleep(0)  # a client that reads and sends without a pause is never waited for
        return True

    def _answer(self, request: Any, connection: Connection, addr: Any, address: Any) -> None:
        """Answer a request, with the hooks and the log of gunicorn's own ``handle_request``.

        That one writes head and body apart and makes each header anew, which takes 3 % of the
        time of a request.
        """
        started = datetime.now()
        self.cfg.pre_request(self, request)
        connection.client.settimeout(self.wsgi.write_timeout_s)  # it may send 100 Continue
        response, environ = create(request, connection.client, addr, address, self.cfg)
        self._count_request()
        answer, body = self.wsgi(environ, connection)
        keeps = self.alive and not (body.is_unfinished or request.should_close())
        response.status, response.headers = answer.status, answer.headers
        response.sent = len(answer.body)
        try:
            self._send(connection, answer, keeps)
            # After the answer: a client that has not sent its body yet need not wait for it.
            body.discard()
        finally:
            self.log.access(response, request, environ, datetime.now() - started)
            self.cfg.post_request(self, request, environ, response)
        if not keeps or body.is_unfinished:
            raise StopIteration

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("this worker has answered max_requests and is replaced")
            self.alive = False

    def _send(self, connection: Connection, answer: Any, keeps: bool) -> None:
        """Send a whole answer, and say whether the connection stays open."""
        lines = [
            f"HTTP/1.1 {answer.status}",
            f"Server: {SERVER}",
            f"Date: {_http_date(int(time.time()))}",
            f"Connection: {'keep-alive' if keeps else 'close'}",
            *(f"{name}: {value}" for name, value in answer.headers),
            "\r\n",
        ]
        data = "\r\n".join(lines).encode("latin-1") + answer.body
        connection.send(data, self.wsgi.write_timeout_s)

    def _count_connection(self, change: int) -> None:
        self._connections += change
        if self.alive:
            self.balance.publish(self.slot, self._connections)

    def _shake_hands(self, connection: Connection) -> None:
        if self.cfg.is_ssl:
            limit = gevent.Timeout(self.wsgi.head_timeout_s, TimeoutError)
            with limit, self._wait_for(connection):
                connection.client.do_handshake()

    def _next_request(self, parser: Any, connection: Connection) -> Any:
        """Wait for the next request and read its head; None when there will be none."""
        received = connection.take_received(RECEIVE_BYTES_OF_FEW) or parser.unreader.take_buffered()
        received = received or self._wait_for_bytes(connection)
        if not received:
            return None
        head, end, rest = received.partition(HEAD_END)
        parser.unreader.unread(head + end)
        if end:
            request = next(parser)  # needs no more bytes, and no timer
        else:
            connection.client.settimeout(None)  # the whole head has a limit
            with gevent.Timeout(self.wsgi.head_timeout_s), self._wait_for(connection):
                request = next(parser)
            rest = parser.unreader.take_buffered()
        if isinstance(request.body.reader, LengthReader):
            # RequestBody reads it, with fewer copies; gunicorn is to see none of it.
            request.body.reader.length, connection.received = 0, rest
        else:
            parser.unreader.unread(rest)
        return request

    def _wait_for_bytes(self, connection: Connection) -> bytes:
        is_one_of_few = self._connections <= FEW_CONNECTIONS
        size = RECEIVE_BYTES_OF_FEW if is_one_of_few else RECEIVE_BYTES
        with self._wait_for(connection, is_idle=True):
            return connection.receive(size, self.cfg.keepalive)

    def _wait_for(self, connection: Connection, is_idle: bool = False) -> Lease[None]:
        """Let others have the place of a client while the block waits for it."""
        begin = partial(self._waiting.__setitem__, connection, is_idle)
        return Lease(begin, partial(self._waiting.pop, connection, None))

    def _excess_connections(self) -> int:
        return self._connections - (int(self.worker_connections) - SPARE_CONNECTIONS)

    def _make_room(self, count: int) -> None:
        """Close the connections that have waited longest for their clients."""
        for _ in range(count):
            if self._waiting:
                longest = next(iter(self._waiting))
                del self._waiting[longest]
                longest.end_reading()
            else:
                self.wsgi.evict_body()


def _host_of(addr: Any) -> str:
    return addr[0] if isinstance(addr, tuple) else ""


@lru_cache(maxsize=1)
def _http_date(now: int) -> str:
    """Write a time of this second as the Date header has it (RFC 9110, section 5.6.7)."""
    return formatdate(now, usegmt=True)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Hands gunicorn's own lines to the root logger, so that all lines have one form."""

    def setup(self, cfg: Any) -> None:
        """Propagate instead of writing; called at start and at each reload."""
        super().setup(cfg)
        for handler in list(self.error_log.handlers):
            self.error_log.removeHandler(handler)
        self.error_log.propagate = True
        self.error_log.setLevel(logging.getLogger().level)
