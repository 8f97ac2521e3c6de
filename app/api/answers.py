"""Answers as the contract writes them: JSON, UTF-8, keys in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON_TYPE = "application/json; charset=utf-8"


class _JsonResponse(Response):
    """A response that is whole: its headers have its length, and nothing is to be closed."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else list(self.iter_encoded())


def json_response(payload: dict[str, Any], status: int = 200) -> Response:
    """Serialise a payload, keys in their order, non-ASCII characters as they are."""
    return _JsonResponse(orjson.dumps(payload), status, content_type=JSON_TYPE)
