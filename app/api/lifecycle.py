"""Around every request: its record before, its headers and its log line after."""

import logging

from flask import Flask, Request, Response, request

from app.api.bodies import drain_body
from app.api.parts import current_parts
from app.api.recording import record_request
from app.api.trace import Trace, current_trace, start_trace

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by whoever watches; logged at debug level."""

_log = logging.getLogger("classifyd.request")


def register_lifecycle(app: Flask) -> None:
    """Hang the steps around every request of an app."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    start_trace(current_parts().log_ids.take())


def _end(response: Response) -> Response:
    parts, trace = current_parts(), current_trace()
    # Each look through Flask's proxy is three calls.
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # the proxy's own
    if trace.code:
        drain_body(asked, parts.patience)
    response.headers["X-Log-Id"] = str(trace.log_id)
    if trace.stages_ms:
        response.headers["Server-Timing"] = trace.server_timing()
    if trace.version:
        response.headers["X-Model-Version"] = trace.version
    record_request(parts, trace, asked.path)
    _write_log_line(trace, asked, response)
    return response


def _write_log_line(trace: Trace, asked: Request, response: Response) -> None:
    level = logging.DEBUG if asked.path in QUIET_PATHS else logging.INFO
    if not _log.isEnabledFor(level):
        return
    fields = {
        "log_id": trace.log_id,
        "method": asked.method,
        "path": asked.path,
        "deploy_name": trace.deploy_name,
        "version": trace.version,
        "status": response.status_code,
        "code": trace.code,
        "detail": trace.detail,
        "image": trace.image,
        "top": trace.top,
        "token": trace.token,
        "client": asked.remote_addr or "",
        "total_ms": round(trace.elapsed_ms(), 2),
        "stages_ms": {name: round(ms, 2) for name, ms in trace.stages_ms.items()},
    }
    _log.log(level, "request", extra={"fields": fields})
