"""Calls from web pages of other origins (the Fetch standard, "CORS protocol")."""

from flask import Flask, Response, request

from app.api.paths import is_api_path

_EXPOSED = "X-Log-Id, X-Model-Version, X-Error-Code, X-Error-Detail, Server-Timing, Retry-After"
_PREFLIGHT_AGE_S = "86400"


def register_cors(app: Flask, cors_origins: str) -> None:
    """Let pages of the listed origins call the API of an app.

    Args:
        app: gets a step after each request.
        cors_origins: ``off``, ``*``, or origins separated by commas.
    """
    if cors_origins == "off":
        return
    allowed = frozenset(cors_origins.split(","))

    def allow(response: Response) -> Response:
        if is_api_path(request.path):
            _allow(response, allowed)
        return response

    app.after_request(allow)


def _allow(response: Response, allowed: frozenset[str]) -> None:
    origin = request.headers.get("Origin", "")
    response.vary.add("Origin")
    if not origin or not ({"*", origin} & allowed):
        return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
    headers["Access-Control-Expose-Headers"] = _EXPOSED
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = "POST"
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        headers["Access-Control-Max-Age"] = _PREFLIGHT_AGE_S
    if "Access-Control-Request-Private-Network" in request.headers:
        headers["Access-Control-Allow-Private-Network"] = "true"
