"""Answers without Flask: 336100 under overload, and what never becomes a request.

A server that is offered ten times what it can compute sheds nine calls for each that it
answers. Through Flask each takes five times as long as here.
"""

from http import HTTPStatus
from typing import NamedTuple

from app.api.access import presented_token
from app.api.context import WorkerContext
from app.api.errors import answer_status, error_body, error_headers
from app.api.paths import deploy_name_of, is_api_path
from app.api.trace import Trace
from app.errors import ApiError


class Answer(NamedTuple):
    """A whole WSGI response."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class LoadShedder:
    """Refuses calls of the API as the views do, without them.

    Args:
        context: the worker's.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def shed(self, environ: dict[str, str], started: float) -> Answer | None:
        """Answer, count and log a call that finds every place taken.

        Args:
            environ: the WSGI environ of a POST request.
            started: time.monotonic() when its head had been read.

        Returns:
            None where the views must answer: the path is no call of the API, it comes from a
            web page of another origin, or something is wrong that comes before admission in
            the contract's order of checks.
        """
        path = environ["PATH_INFO"]
        if not is_api_path(path) or "HTTP_ORIGIN" in environ:
            return None
        trace = self._begin_trace(path, started)
        try:
            self._check(trace, environ)
        except ApiError:
            return None
        return self._answer(trace, environ, self._context.admission.refusal())

    def answer(self, environ: dict[str, str], started: float, error: ApiError) -> Answer:
        """Answer, count and log any error of a request for which no thread can speak."""
        return self._answer(self._begin_trace(environ["PATH_INFO"], started), environ, error)

    def _begin_trace(self, path: str, started: float) -> Trace:
        log_id = self._context.log_ids.take()
        return Trace(log_id, started, deploy_name=deploy_name_of(path))

    def _check(self, trace: Trace, environ: dict[str, str]) -> None:
        """Check what comes before admission, in the views' order."""
        context = self._context
        manifest = context.models.get(trace.deploy_name).package.manifest
        context.licences.require(manifest)
        trace.version = manifest.version
        if context.tokens is not None:
            authorization = environ.get("HTTP_AUTHORIZATION", "")
            query = environ["QUERY_STRING"].encode("latin-1")
            trace.token = context.tokens.check(presented_token(authorization, query))
            context.metrics.count_token(trace.token)

    def _answer(self, trace: Trace, environ: dict[str, str], error: ApiError) -> Answer:
        settings, path, method = (
            self._context.settings,
            environ["PATH_INFO"],
            environ["REQUEST_METHOD"],
        )
        trace.fail(error)
        status = answer_status(error.status, method, path, settings)
        client = environ.get("REMOTE_ADDR", "")
        self._context.recorder.note(trace, method, path, client, status)
        body = error_body(error, trace.log_id, settings)
        headers = [
            *error_headers(error),
            *trace.headers(),
            ("Content-Length", str(len(body))),
        ]
        return Answer(f"{status} {HTTPStatus(status).phrase}", headers, body)
