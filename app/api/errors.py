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
from app.errors import ApiError, InternalError, InvalidArgument, ModelUnavailable
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
    return _fill(Response(status=error.status), error)


def handle_http_exception(exc: HTTPException) -> Response:
    """Answer what Flask and Werkzeug raise: unknown path, wrong method, a crash."""
    # Its own response carries what HTTP wants: Allow with 405, Location with a redirect.
    response = Response(headers=exc.get_headers(request.environ), status=exc.code)
    return _fill(response, _to_api_error(exc))


def _to_api_error(exc: HTTPException) -> ApiError:
    if exc.code is None or exc.code >= 500:
        _log_traceback(getattr(exc, "original_exception", None) or exc)
        return InternalError("an unexpected failure, its traceback is in the log")
    details = {404: "no such path", 405: f"{request.method} is not allowed here"}
    return InvalidArgument(details.get(exc.code, "the request could not be read"))


def _fill(response: Response, error: ApiError) -> Response:
    """Write the documented body, the detail and the status that the settings ask for."""
    trace, settings = current_trace(), current_context().settings
    trace.fail(error)
    response.data = error_body(error, trace.log_id, settings)
    response.headers.update(error_headers(error))
    response.status_code = answer_status(
        response.status_code, request.method, request.path, settings
    )
    return response


def error_headers(error: ApiError) -> list[tuple[str, str]]:
    """Make the headers that only an error has."""
    headers = [
        ("Content-Type", JSON_TYPE),
        ("X-Error-Code", str(error.error_code)),
        ("X-Error-Detail", error.detail),
    ]
    if isinstance(error, ModelUnavailable):
        headers.append(("Retry-After", str(error.retry_after_s)))
    return headers


def answer_status(status: int, method: str, path: str, settings: Settings) -> int:
    """Choose the HTTP status of an answer.

    Deployed clients drop the body of a 4xx: with ``http_status = compat`` every call of the API
    is answered 200, except HEAD and OPTIONS.
    """
    is_call = is_api_path(path) and method not in {"HEAD", "OPTIONS"}
    return 200 if is_call and settings.http_status == "compat" else status


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


def _log_traceback(error: BaseException) -> None:
    _log.error("log_id %d failed", current_trace().log_id, exc_info=error)
