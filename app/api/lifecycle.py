"""Around every request: its trace before, its headers and its record after."""

from flask import Flask, Response, request

from app.api.context import current_context
from app.api.received import current_received
from app.api.trace import current_trace, start_trace


def register_lifecycle(app: Flask) -> None:
    """Hang the steps around every request of an app."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    start_trace(current_context().log_ids.take(), current_received())


def _end(response: Response) -> Response:
    trace = current_trace()
    response.headers.extend(trace.headers())
    current_context().recorder.note(
        trace, request.method, request.path, request.remote_addr or "", response.status_code
    )
    return response
