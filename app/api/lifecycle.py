"""Around every request: its trace before, its headers and its record after."""

from flask import Flask, Request, Response, request

from app.api.bodies import drain_body
from app.api.context import current_context
from app.api.trace import current_trace, start_trace


def register_lifecycle(app: Flask) -> None:
    """Hang the steps around every request of an app."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    start_trace(current_context().log_ids.take())


def _end(response: Response) -> Response:
    parts, trace = current_context(), current_trace()
    # Each look through Flask's proxy is three calls.
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # the proxy's own
    if trace.code:
        drain_body(asked, parts.patience)
    # Not set, but added: nothing else writes them, and then none need be looked for.
    response.headers.add("X-Log-Id", str(trace.log_id))
    if trace.stages_ms:
        response.headers.add("Server-Timing", trace.server_timing())
    if trace.version:
        response.headers.add("X-Model-Version", trace.version)
    client = asked.remote_addr or ""
    parts.recorder.note(trace, asked.method, asked.path, client, response.status_code)
    return response
