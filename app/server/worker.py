"""gunicorn's thread worker and logger, made to speak the contract and the log format."""

import logging
import select
import selectors
import socket
import ssl
import sys
import threading
import time
from contextlib import closing, nullcontext, suppress
from functools import partial
from typing import Any

import orjson
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import close_graceful
from gunicorn.workers.gthread import ThreadWorker

from app.balance import Balance
from app.errors import ApiError, InternalError, InvalidArgument, ModelUnavailable, OperatorError
from app.plain_http import Connection, answer_of
from app.request_threads import RequestThreads

LINGER_MS = 10
"""How long a thread stays with a connection that may send its next request at once."""

HEAD_BYTES = 4096
"""How much of a request is looked at when it may have to be refused; a longer head goes the
ordinary way."""

DRAIN_S = 10
"""How long a refused client may go on sending its body."""

ACCEPT_PAUSE_S = 0.1

BOOT_FAILURE_S = 10
"""How long a worker that cannot serve waits for the first one to fail, and the master to stop."""

ACCEPTS_AT_ONCE = 512
"""So many new connections before others have their turn: a burst that waits to be taken is
refused late."""

YIELD_S = 0.002
"""How long a worker leaves a connection to those that have fewer; then it takes it itself."""

_STATUS_LINES: dict[type[Exception], str] = {
    LimitRequestLine: "414 URI Too Long",
    LimitRequestHeaders: "431 Request Header Fields Too Large",
    ParseException: "400 Bad Request",
    ssl.SSLError: "400 Bad Request",
    Exception: "500 Internal Server Error",
}


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A thread worker whose failures outside Flask are JSON, and short in the log."""

    balance = Balance()  # of all workers: the master imports this before it forks
    slot: int | None = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lingering = 0
        self._served: dict[int, Any] = {}
        self._unread: dict[Any, tuple[int, float]] = {}
        self._waste = bytearray(1024 * 1024)

    def get_thread_pool(self) -> RequestThreads:
        """Make the threads that answer; gunicorn's own are made when they are first wanted."""
        return RequestThreads(self.cfg.threads)

    def load_wsgi(self) -> None:
        """Load the app; a failure that the operator can mend ends the server with its text."""
        try:
            super().load_wsgi()
        except OperatorError as exc:
            self.log.error("%s", exc)
            self._wait_for_the_end()
            sys.exit(Arbiter.WORKER_BOOT_ERROR if self.alive else 0)
        self._refuser = self.wsgi.extensions["classifyd_refuser"]
        self.wsgi.extensions["classifyd"].models.queue.on_hung_caller = self._answer_hung

    def _wait_for_the_end(self) -> None:
        """Leave it to the first worker to end the server.

        The master takes one such failure; a second one while it stops ends it with a traceback.
        """
        end = time.monotonic() + (BOOT_FAILURE_S if self.slot else 0)
        while self.alive and time.monotonic() < end:
            time.sleep(0.05)

    def accept(self, listener: Any) -> None:
        """Take new connections, and wait for their first requests without a thread.

        gunicorn's own method gives each a thread at once, which a client that sends nothing
        then holds for five seconds. It also takes one at a time: under load those that wait
        to be taken would wait behind everything else that is ready, again and again.
        """
        if self._is_anothers_turn():
            time.sleep(YIELD_S)
        for _ in range(ACCEPTS_AT_ONCE):
            if not self._accept_one(listener) or self._is_anothers_turn():
                return
            if self.nr_conns >= self.worker_connections:
                return

    def _is_anothers_turn(self) -> bool:
        return self.slot is not None and self.balance.is_anothers_turn(self.slot)

    def _accept_one(self, listener: Any) -> bool:
        """Take a connection; say whether there was one."""
        try:
            client_socket, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as exc:
            # No file or no memory for it. A worker that ends for that helps nobody.
            self.log.error("cannot take a connection: %s", exc.strerror)
            time.sleep(ACCEPT_PAUSE_S)
            return False
        self.nr_conns += 1
        conn = Connection(self.cfg, client_socket, address, listener.getsockname())
        conn.data_ready = True  # by the time that a thread gets it
        self._await_request(conn)
        return True

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Give a connection with a request to a thread, or refuse when every place is taken."""
        if conn in self._unread:
            self._drain(conn)
        elif self.cfg.is_ssl or not self._refuser.admission.is_full():
            super().on_client_socket_readable(conn, client)
        else:
            self._refuse(conn, client)

    @property
    def nr_conns(self) -> int:
        """How many connections this worker has; gunicorn counts them here."""
        return self._connections

    @nr_conns.setter
    def nr_conns(self, number: int) -> None:
        self._connections = number
        if self.slot is not None and self._accepting:
            self.balance.show(self.slot, number)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or end to take connections, and let the other workers know."""
        super().set_accept_enabled(enabled)
        if self.slot is not None:
            if enabled:
                self.balance.show(self.slot, self.nr_conns)
            else:
                self.balance.leave(self.slot)

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection to a thread, and count it as one that will take a place."""
        self._refuser.admission.expect()
        super().enqueue_req(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close idle connections, and refused ones that go on sending for too long."""
        now = time.monotonic()
        for conn in [conn for conn, (_, end) in self._unread.items() if force or end < now]:
            self._drop(conn)
        super().murder_keepalived(force)

    def _await_request(self, conn: Any) -> None:
        conn.set_timeout()
        self.keepalived_conns.append(conn)
        readable = partial(self.on_client_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def _refuse(self, conn: Any, client: Any) -> None:
        """Answer a call from its head alone; what is no plain call goes to a thread."""
        try:
            data = conn.sock.recv(HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        head, end, rest = data.partition(b"\r\n\r\n")
        address = conn.client[0] if isinstance(conn.client, tuple) else ""
        refusal = self._refuser.refuse(head + end, address) if end else None
        if refusal is None or len(rest) > refusal.body_bytes:
            conn.init()
            conn.parser.unreader.unread(data)
            super().on_client_socket_readable(conn, client)
            return
        try:
            sent = conn.sock.send(refusal.answer)
        except OSError:
            sent = 0
        if sent < len(refusal.answer):
            self._drop(conn)
            return
        # At the end again: the connections are in the order in which they become too old.
        self.keepalived_conns.remove(conn)
        self.keepalived_conns.append(conn)
        conn.set_timeout()
        self._unread[conn] = refusal.body_bytes - len(rest), time.monotonic() + DRAIN_S
        self._drain(conn)

    def _drain(self, conn: Any) -> None:
        """Throw away what a refused client sends, else the closed socket eats the answer."""
        left, end = self._unread[conn]
        try:
            while left:
                # The kernel throws the bytes away without copying them (tcp(7), MSG_TRUNC).
                size = min(left, len(self._waste))
                count = conn.sock.recv_into(self._waste, size, socket.MSG_TRUNC)
                if not count:
                    self._drop(conn)
                    return
                left -= count
        except BlockingIOError:
            self._unread[conn] = left, end
            return
        except OSError:
            self._drop(conn)
            return
        del self._unread[conn]

    def _drop(self, conn: Any) -> None:
        self._unread.pop(conn, None)
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        self.nr_conns -= 1
        conn.close()

    def handle(self, conn: Any) -> Any:
        """Answer the requests of a connection as long as they follow each other closely.

        gunicorn's own method hands a kept-alive connection back to the main thread after
        each answer: two changes of thread, while the caller's next request is on its way.
        """
        ident = threading.get_ident()
        self._served[ident] = conn
        try:
            outcome = self._handle_expected(conn)
            while outcome is True and self._next_follows(conn):
                outcome = super().handle(conn)
            return outcome
        finally:
            del self._served[ident]

    def _handle_expected(self, conn: Any) -> Any:
        """Answer the request that a thread was given, which was counted before it came."""
        self._refuser.admission.set_out()
        try:
            return super().handle(conn)
        finally:
            self._refuser.admission.arrive()

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Call the app and send its answer; say whether the connection goes on.

        gunicorn's own method without its hooks, its access log and its count of requests, of
        which nothing is used here, and with an answer that is sent in one piece.
        """
        response, environ = answer_of(req, conn)
        environ["wsgi.multithread"] = True
        if not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            response.force_close()
        try:
            pieces = self.wsgi(environ, response.start_response)
            with closing(pieces) if hasattr(pieces, "close") else nullcontext():
                for piece in pieces:
                    response.write(piece)
                response.close()
        except OSError:
            raise
        except Exception as exc:
            if not response.headers_sent:
                raise
            # An answer that has begun can only be cut short.
            self.log.exception("an answer broke off")
            close_graceful(conn.sock)
            raise StopIteration from exc
        return not response.should_close()

    def _next_follows(self, conn: Any) -> bool:
        """Wait a little for the connection's next request, unless the thread is needed."""
        if self.cfg.is_ssl or not self.alive or conn.parser.unreader.buf.getvalue():
            return False
        if self._lingering >= self.cfg.threads // 2 or self._refuser.admission.is_full():
            return False
        self._lingering += 1
        try:
            poll = select.poll()
            poll.register(conn.sock, select.POLLIN)
            return bool(poll.poll(LINGER_MS))
        finally:
            self._lingering -= 1

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer a request that never reached Flask: unreadable HTTP, or a failure below it.

        gunicorn's own method would answer HTML with the exception's text.
        """
        status_line = next(line for kind, line in _STATUS_LINES.items() if isinstance(exc, kind))
        is_client_error = isinstance(exc, ParseException | ssl.SSLError)
        error = InvalidArgument if is_client_error else InternalError
        detail = f"the HTTP request could not be read: {type(exc).__name__}"
        self._answer(client, addr, error(detail), status_line, None if is_client_error else exc)

    def _answer_hung(self, ident: int, error: ModelUnavailable) -> None:
        """Answer for a thread that hangs in an inference, before the process ends."""
        conn = self._served.get(ident)
        if conn is None:
            return
        is_compat = self.wsgi.extensions["classifyd"].settings.http_status == "compat"
        status_line = "200 OK" if is_compat else "503 Service Unavailable"
        self._answer(conn.sock, conn.client, error, status_line)
        # Should the thread come back, nobody hears its answer. The base class's method: that
        # of a TLS socket would take the encryption off as well.
        with suppress(OSError):
            socket.socket.shutdown(conn.sock, socket.SHUT_WR)

    def _answer(
        self,
        client: Any,
        addr: Any,
        error: ApiError,
        status_line: str,
        exc: Exception | None = None,
    ) -> None:
        """Log, count and answer a failure without Flask."""
        parts = self.wsgi.extensions["classifyd"]
        log_id = parts.log_ids.take()
        fields = {
            "log_id": log_id,
            "client": addr[0] if isinstance(addr, tuple) else "",
            "code": error.error_code,
        }
        self.log.warning("%s", error.detail, exc_info=exc, extra={"fields": fields})
        parts.metrics.count_request("", error.error_code)
        body = {"error_code": error.error_code, "error_msg": error.error_msg, "log_id": log_id}
        if parts.settings.error_detail == "body":
            body["error_detail"] = error.detail
        try:
            client.sendall(_http_answer(status_line, error, orjson.dumps(body)))
        except OSError:
            self.log.debug("the client of log_id %d is gone", log_id)


def _http_answer(status_line: str, error: ApiError, body: bytes) -> bytes:
    retry = f"Retry-After: {error.retry_after_s}\r\n" if isinstance(error, ModelUnavailable) else ""
    head = (
        f"HTTP/1.1 {status_line}\r\nConnection: close\r\n{retry}"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"X-Error-Detail: {error.detail}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Hands gunicorn's own lines to the root logger, so that all lines have one form."""

    def setup(self, cfg: Any) -> None:
        """Propagate instead of writing; called at start and at each reload."""
        super().setup(cfg)
        for handler in list(self.error_log.handlers):
            self.error_log.removeHandler(handler)
        self.error_log.propagate = True
        self.error_log.setLevel(logging.getLogger().level)
