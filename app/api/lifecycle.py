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
    log_request(trace, asked.method, asked.path, asked.remote_addr or "", response.status_code)
    return response


def log_request(trace: Trace, method: str, path: str, client: str, status: int) -> None:
    """Write the log line of a request that was answered."""
    level = logging.DEBUG if path in QUIET_PATHS else logging.INFO
    if not _log.isEnabledFor(level):
        return
    fields = {
        "log_id": trace.log_id,
        "method": method,
        "path": path,
        "deploy_name": trace.deploy_name,
        "version": trace.version,
        "status": status,
        "code": trace.code,
        "detail": trace.detail,
        "image": trace.image,
        "top": trace.top,
        "token": trace.token,
        "client": client,
        "total_ms": round(trace.elapsed_ms(), 2),
        "stages_ms": {name: round(ms, 2) for name, ms in trace.stages_ms.items()},
    }
    _log.log(level, "request", extra={"fields": fields})
