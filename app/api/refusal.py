"""Refusing a call on its head alone, while every place is taken.

A server that is offered ten times what it can compute refuses nine calls for each that it
answers. By way of a thread and Flask a refusal takes a millisecond with the call's body; here
it takes a tenth of that, so that the refusals do not eat the answers.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

from app.api.access import presented_token
from app.api.answers import JSON_TYPE
from app.api.bodies import DRAIN_LIMIT_BYTES
from app.api.context import WorkerContext
from app.api.errors import error_body
from app.api.trace import Trace
from app.errors import ApiError
from app.http_date import http_date

_CALL = re.compile(
    rb"POST (/([A-Za-z0-9._-]+)/ImageClassification(?:/batch)?/?)(?:\?([!->@-~]*))? HTTP/1\.1\r\n"
    rb"(?:[A-Za-z0-9_-]+:[\t -~]*\r\n)+\r\n"
)
"""Nothing but the plainest of heads: who sends another takes the ordinary way."""

_LENGTH = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
_AUTHORIZATION = re.compile(rb"\r\nauthorization: *([^\r]*)", re.IGNORECASE)
_UNUSUAL = re.compile(
    rb"\r\n(?:(?:transfer-encoding|expect|upgrade|origin):|connection:(?! *keep-alive *\r))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Refusal:
    """How to refuse one call.

    Attributes:
        answer: the whole HTTP response.
        body_bytes: how many bytes of body the client sends behind the head.
    """

    answer: bytes
    body_bytes: int


class Refuser:
    """Refuses calls of the API as the views do, without them.

    Args:
        parts: the worker's.
    """

    def __init__(self, parts: WorkerContext) -> None:
        self._parts = parts
        self.admission = parts.admission
        self._error = error = parts.admission.refusal()
        status = 200 if parts.settings.http_status == "compat" else error.status
        self._status, self._status_line = status, f"{status} {HTTPStatus(status).phrase.upper()}"

    def refuse(self, head: bytes, client: str) -> Refusal | None:
        """Answer, count and log a call that finds every place taken.

        Args:
            head: the request line and the headers, with the empty line behind them.
            client: its address.

        Returns:
            None where the ordinary way must judge: it is no call of the API, or not a plain
            one, or something else is wrong with it that comes before in the order of checks.
        """
        call, lengths = _CALL.fullmatch(head), _LENGTH.findall(head)
        if call is None or len(lengths) != 1 or _UNUSUAL.search(head):
            return None
        length = lengths[0].strip()
        if not length.isdigit() or len(length) > 9 or int(length) > DRAIN_LIMIT_BYTES:
            return None
        path, name, query = call.groups(b"")
        trace = Trace(self._parts.log_ids.take(), deploy_name=name.decode())
        try:
            self._check(trace, head, query)
        except ApiError:
            return None
        trace.code, trace.detail = self._error.error_code, self._error.detail
        self._parts.recorder.note(trace, "POST", path.decode(), client, self._status)
        return Refusal(self._http_answer(trace), int(length))

    def _check(self, trace: Trace, head: bytes, query: bytes) -> None:
        """Check what comes before the places, in the views' order."""
        manifest = self._parts.models.get(trace.deploy_name).package.manifest
        self._parts.licences.require(manifest)
        trace.version = manifest.version
        if self._parts.tokens is not None:
            found = _AUTHORIZATION.search(head)
            authorization = found[1].decode() if found else ""
            trace.token = self._parts.tokens.check(presented_token(authorization, query))
            self._parts.metrics.count_token(trace.token)

    def _http_answer(self, trace: Trace) -> bytes:
        """Write the answer with the headers that ``lifecycle`` and gunicorn give it."""
        error = self._error
        body = error_body(error, trace.log_id, self._parts.settings)
        head = (
            f"HTTP/1.1 {self._status_line}\r\n"
            f"Server: gunicorn\r\nDate: {http_date()}\r\nConnection: keep-alive\r\n"
            f"Content-Type: {JSON_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"Retry-After: {error.retry_after_s}\r\nX-Error-Detail: {error.detail}\r\n"
            f"X-Log-Id: {trace.log_id}\r\nX-Model-Version: {trace.version}\r\n\r\n"
        )
        return head.encode("ascii") + body
