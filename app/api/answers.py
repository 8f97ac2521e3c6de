"""Answers as the contract writes them: JSON, UTF-8, keys in order."""

from typing import Any

import orjson
from flask import Response
from werkzeug.datastructures import Headers

JSON_TYPE = "application/json; charset=utf-8"


class _JsonResponse(Response):
    """A response whose headers are already what is sent: its length is among them."""

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        return self.headers


def json_response(payload: dict[str, Any], status: int = 200) -> Response:
    """Serialise a payload, keys in their order, non-ASCII characters as they are."""
    return _JsonResponse(orjson.dumps(payload), status, content_type=JSON_TYPE)
