"""The two error handlers: every failure leaves the server through one of them."""

import logging
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app.api.answers import JSON_TYPE
from app.api.context import current_context
from app.api.paths import is_api_path
from app.api.trace import current_trace
from app.errors import ApiError, InternalError, InvalidArgument, InvalidImageSize, ModelUnavailable
from app.settings import Settings

_log = logging.getLogger(__name__)


def register_error_handlers(app: Flask) -> None:
    """Turn every failure of an app into the documented body."""
    app.register_error_handler(ApiError, handle_api_error)
    app.register_error_handler(HTTPException, handle_http_exception)


def handle_api_error(error: ApiError) -> Response:
    """Answer a failure that has a documented code."""
    if isinstance(error, InternalError):
        _log_traceback(error)
    response = Response(status=error.status)
    if isinstance(error, ModelUnavailable):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return _fill(response, error)


def handle_http_exception(exc: HTTPException) -> Response:
    """Answer what Flask and Werkzeug raise: unknown path, wrong method, oversize, a crash."""
    # Its own response carries what HTTP wants: Allow with 405, Location with a redirect.
    response = Response(headers=exc.get_headers(request.environ), status=exc.code)
    return _fill(response, _to_api_error(exc))


def _to_api_error(exc: HTTPException) -> ApiError:
    if exc.code == 413:
        return InvalidImageSize("the body is longer than any that can hold 4 MiB of base64")
    if exc.code is None or exc.code >= 500:
        _log_traceback(getattr(exc, "original_exception", None) or exc)
        return InternalError("an unexpected failure, its traceback is in the log")
    details = {404: "no such path", 405: f"{request.method} is not allowed here"}
    return InvalidArgument(details.get(exc.code, "the request could not be read"))


def _fill(response: Response, error: ApiError) -> Response:
    """Write the documented body, the detail and the status that the settings ask for."""
    trace, settings = current_trace(), current_context().settings
    trace.code, trace.detail = error.error_code, error.detail
    response.data = error_body(error, trace.log_id, settings)
    response.headers["Content-Type"] = JSON_TYPE
    response.headers["X-Error-Detail"] = error.detail
    if settings.http_status == "compat" and _is_api_call():
        response.status_code = 200
    return response


def error_body(error: ApiError, log_id: int, settings: Settings) -> bytes:
    """Write the documented body of a failure."""
    body: dict[str, Any] = {
        "error_code": error.error_code,
        "error_msg": error.error_msg,
        "log_id": log_id,
    }
    if settings.error_detail == "body":
        body["error_detail"] = error.detail
    return orjson.dumps(body)


def _is_api_call() -> bool:
    """Whether deployed clients expect 200: any call of the API but HEAD and OPTIONS."""
    return is_api_path(request.path) and request.method not in {"HEAD", "OPTIONS"}


def _log_traceback(error: BaseException) -> None:
    _log.error("log_id %d failed", current_trace().log_id, exc_info=error)
