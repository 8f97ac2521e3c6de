"""The callable before Flask: it receives a body, bounds, sheds and hands over.

The worker calls it in the greenlet of a connection. A greenlet costs some kilobytes, so a slow
client costs no more than that. Flask runs in a few native threads, which decode, preprocess
and infer, and sees nothing but whole requests.
"""

import io
import time
from functools import partial
from typing import Any

import gevent
from flask import Flask
from werkzeug.test import run_wsgi_app

from app.api.context import WorkerContext
from app.api.paths import is_batch, takes_image, takes_many_inferences
from app.api.received import RECEIVED_KEY, ReceivedRequest
from app.errors import ApiError, InternalError, InvalidArgument, ModelUnavailable
from app.server.connection import Connection
from app.server.load_shedding import Answer, LoadShedder
from app.server.native_threads import NativeThreads
from app.server.request_body import BodyTimeouts, RequestBody
from app.system.priority import COMPUTE_NICENESS

MAX_BODY_BYTES = 8 * 1024 * 1024
"""4 MiB of base64, and as much again for escapes, white space and other fields."""

MAX_BATCH_BODY_BYTES = 32 * 1024 * 1024

PAGE_THREADS = 2
"""For health checks, metrics and pages, which must not wait behind images."""

UNUSUAL_HEADERS = frozenset({"TRANSFER-ENCODING", "EXPECT", "UPGRADE", "ORIGIN"})
"""Requests with one of these are answered by the views, also under overload."""

Environ = dict[str, Any]


class Front:
    """Receives requests for a Flask app.

    Args:
        app: answers requests whose body is whole.
        context: the worker's.

    Attributes:
        head_timeout_s: how long a client may take for a request head or a TLS handshake.
        write_timeout_s: how long a client may take to read an answer.
        metrics: of the worker.
    """

    def __init__(self, app: Flask, context: WorkerContext) -> None:
        settings = context.settings
        self.head_timeout_s = settings.head_timeout_s
        self.write_timeout_s = settings.write_timeout_s
        self.metrics = context.metrics
        self._app = app
        self._admission, self._body_memory = context.admission, context.body_memory
        self._body_timeouts = BodyTimeouts(settings.read_timeout_s, settings.body_timeout_s)
        self._shedder = LoadShedder(context)
        self._image_threads = NativeThreads(context.image_threads, "image", COMPUTE_NICENESS)
        self._batch_threads = NativeThreads(
            max(1, context.image_threads // 8), "batch", COMPUTE_NICENESS
        )
        self._page_threads = NativeThreads(PAGE_THREADS, "page")
        context.costly_images.step_aside = self._image_threads.step_aside
        run_in_loop = gevent.get_hub().loop.run_callback_threadsafe
        context.watchdog.on_hang = partial(run_in_loop, self._fail_pending)

    def __call__(self, environ: Environ, connection: Connection) -> tuple[Answer, RequestBody]:
        """Answer one request.

        It takes the place of a WSGI application (PEP 3333), whose ``start_response`` and pieces
        of an answer nothing here needs.

        Args:
            environ: as WSGI defines it.
            connection: the client's.

        Returns:
            The answer, and the body to discard behind it.
        """
        started = time.monotonic()
        body = RequestBody(
            environ["wsgi.input"],
            connection,
            int(environ.get("CONTENT_LENGTH") or 0),
            "HTTP_TRANSFER_ENCODING" in environ,
        )
        try:
            return self._answer(environ, body, started), body
        except ApiError as exc:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            host = environ.get("REMOTE_ADDR", "")
            return self._shedder.answer(method, path, host, started, exc), body

    def shed(
        self, request: Any, connection: Connection, host: str
    ) -> tuple[Answer, RequestBody] | None:
        """Refuse a plain call of the API on its head alone while every place is taken.

        Most requests under overload end here, before a WSGI environ is made of them.

        Args:
            request: gunicorn's.
            connection: the client's.
            host: the client's address.

        Returns:
            The answer, and the body to discard behind it; None where the request has to go on
            to ``__call__``.
        """
        if not self._admission.is_full() or request.method != "POST" or request.should_close():
            return None
        headers = dict(request.headers)
        if not UNUSUAL_HEADERS.isdisjoint(headers):
            return None
        authorization = headers.get("AUTHORIZATION", "")
        answer = self._shedder.shed(
            request.path, request.query, authorization, host, time.monotonic()
        )
        length = int(headers.get("CONTENT-LENGTH", 0))
        return answer and (answer, RequestBody(request.body, connection, length))

    def evict_body(self) -> None:
        """Refuse the request whose body has been arriving longest, if it is slow."""
        self._body_memory.evict()

    def answer_malformed(self, detail: str, client: str, is_fault_of_client: bool) -> Answer:
        """Answer, count and log what gunicorn could not turn into a request."""
        error = InvalidArgument(detail) if is_fault_of_client else InternalError(detail)
        return self._shedder.answer("", "", client, time.monotonic(), error)

    def _answer(self, environ: Environ, body: RequestBody, started: float) -> Answer:
        if takes_image(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            return self._answer_image(environ, body, started)
        return self._answer_page(environ, started)

    def _answer_image(self, environ: Environ, body: RequestBody, started: float) -> Answer:
        shed = self._shed(environ, started)
        if shed:
            return shed
        with self._body_memory.reserve(body.cut_off) as reservation:
            path = environ["PATH_INFO"]
            limit = MAX_BATCH_BODY_BYTES if is_batch(path) else MAX_BODY_BYTES
            try:
                data = body.read(limit, reservation, self._body_timeouts)
            except ApiError as exc:
                # The views know what comes before the body in the order of checks.
                return self._answer_page(environ, started, exc)
            shed = self._shed(environ, started)
            if shed:
                return shed
            with self._admission.admit() as is_admitted:
                if not is_admitted:
                    return self._answer_page(environ, started)
                environ[RECEIVED_KEY] = ReceivedRequest(started, time.monotonic(), data)
                is_long = takes_many_inferences(path)
                threads = self._batch_threads if is_long else self._image_threads
                answer: Answer = threads.run(self._call_app, environ, data)
                return answer

    def _answer_page(
        self, environ: Environ, started: float, body_failure: ApiError | None = None
    ) -> Answer:
        """Let the views answer what needs no image thread."""
        environ[RECEIVED_KEY] = ReceivedRequest(
            started, time.monotonic(), body_failure=body_failure
        )
        answer: Answer = self._page_threads.run(self._call_app, environ, b"")
        return answer

    def _shed(self, environ: Environ, started: float) -> Answer | None:
        if not self._admission.is_full() or "HTTP_ORIGIN" in environ:
            return None
        gevent.sleep(0)  # as in Worker._shed
        return self._shedder.shed(
            environ["PATH_INFO"],
            environ["QUERY_STRING"],
            environ.get("HTTP_AUTHORIZATION", ""),
            environ.get("REMOTE_ADDR", ""),
            started,
        )

    def _call_app(self, environ: Environ, body: bytes) -> Answer:
        """Call Flask; runs in a native thread, which must not touch the connection."""
        whole = environ | {"wsgi.input": io.BytesIO(body), "gunicorn.socket": None}
        pieces, status, headers = run_wsgi_app(self._app, whole, buffered=True)
        return Answer(status, headers.to_wsgi_list(), b"".join(pieces))

    def _fail_pending(self, error: ModelUnavailable) -> None:
        for threads in (self._image_threads, self._batch_threads, self._page_threads):
            threads.fail_pending(error)
