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
    """A whole answer, as WSGI has its parts."""

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

    def shed(
        self, path: str, query: str, authorization: str, client: str, started: float
    ) -> Answer | None:
        """Answer, count and log a POST request that finds every place taken.

        Args:
            path: of the request.
            query: the query string, which may hold an access token.
            authorization: the header of this name.
            client: its address.
            started: time.monotonic() when its head had been read.

        Returns:
            None where the views must answer: the path is no call of the API, or something is
            wrong that comes before admission in the contract's order of checks.
        """
        if not is_api_path(path):
            return None
        trace = self._begin_trace(path, started)
        try:
            self._check(trace, query, authorization)
        except ApiError:
            return None
        return self._answer(trace, "POST", path, client, self._context.admission.refusal())

    def answer(
        self, method: str, path: str, client: str, started: float, error: ApiError
    ) -> Answer:
        """Answer, count and log an error that never reaches the views."""
        return self._answer(self._begin_trace(path, started), method, path, client, error)

    def _begin_trace(self, path: str, started: float) -> Trace:
        return Trace(self._context.log_ids.take(), started, deploy_name=deploy_name_of(path))

    def _check(self, trace: Trace, query: str, authorization: str) -> None:
        """Check what comes before admission; the views answer whatever fails here."""
        context = self._context
        manifest = context.models.get(trace.deploy_name).package.manifest
        context.licences.require(manifest)
        trace.version = manifest.version
        if context.tokens is not None:
            trace.token = context.tokens.check(
                presented_token(authorization, query.encode("latin-1"))
            )
            context.metrics.count_token(trace.token)

    def _answer(self, trace: Trace, method: str, path: str, client: str, error: ApiError) -> Answer:
        settings = self._context.settings
        trace.fail(error)
        status = answer_status(error.status, method, path, settings)
        self._context.recorder.note(trace, method, path, client, status)
        body = error_body(error, trace.log_id, settings)
        headers = [*error_headers(error), *trace.headers(), ("Content-Length", str(len(body)))]
        status_line = f"{status} {HTTPStatus(status).phrase.upper()}"
        return Answer(status_line, headers, b"" if method == "HEAD" else body)
