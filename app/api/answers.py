"""Answers as the contract writes them: JSON, UTF-8, keys in order."""

from typing import Any

import orjson
from flask import Response

JSON_TYPE = "application/json; charset=utf-8"


def json_response(payload: dict[str, Any], status: int = 200) -> Response:
    """Serialise a payload, keys in their order, non-ASCII characters as they are."""
    return Response(orjson.dumps(payload), status, content_type=JSON_TYPE)
