"""gunicorn's thread worker and logger, made to speak the contract and the log format."""

import logging
import select
import ssl
import sys
from typing import Any

import orjson
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

from app.errors import InternalError, InvalidArgument, OperatorError

LINGER_MS = 10
"""How long a thread stays with a connection that may send its next request at once."""

_STATUS_LINES: dict[type[Exception], str] = {
    LimitRequestLine: "414 URI Too Long",
    LimitRequestHeaders: "431 Request Header Fields Too Large",
    ParseException: "400 Bad Request",
    ssl.SSLError: "400 Bad Request",
    Exception: "500 Internal Server Error",
}


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A thread worker whose failures outside Flask are JSON, and short in the log."""

    _lingering = 0

    def load_wsgi(self) -> None:
        """Load the app; a failure that the operator can mend ends the server with its text."""
        try:
            super().load_wsgi()
        except OperatorError as exc:
            self.log.error("%s", exc)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def handle(self, conn: Any) -> Any:
        """Answer the requests of a connection as long as they follow each other closely.

        gunicorn's own method hands a kept-alive connection back to the main thread after
        each answer: two changes of thread, while the caller's next request is on its way.
        """
        outcome = super().handle(conn)
        while outcome is True and self._next_follows(conn):
            outcome = super().handle(conn)
        return outcome

    def _next_follows(self, conn: Any) -> bool:
        """Wait a little for the connection's next request, unless the thread is needed."""
        if self.cfg.is_ssl or not self.alive or conn.parser.unreader.buf.getvalue():
            return False
        if self._lingering >= self.cfg.threads // 2:
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
        log_id = self.wsgi.extensions["classifyd"].log_ids.take()
        fields = {"log_id": log_id, "client": addr[0] if addr else "", "code": error.error_code}
        detail = f"the HTTP request could not be read: {type(exc).__name__}"
        self.log.warning(
            "%s",
            detail,
            exc_info=None if is_client_error else exc,
            extra={"fields": fields},
        )
        self.wsgi.extensions["classifyd"].metrics.count_request("", error.error_code)
        body = {"error_code": error.error_code, "error_msg": error.error_msg, "log_id": log_id}
        try:
            client.sendall(_http_answer(status_line, detail, orjson.dumps(body)))
        except OSError:
            self.log.debug("the client of log_id %d is gone", log_id)


def _http_answer(status_line: str, detail: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status_line}\r\nConnection: close\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"X-Error-Detail: {detail}\r\nContent-Length: {len(body)}\r\n\r\n"
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
