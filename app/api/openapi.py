"""The OpenAPI 3.1 description of the API.

``openapi.json`` is the part that all servers share. This module adds the schemas that validate
requests, the deploy names, and the responses that depend on the settings.
"""

import json
from collections.abc import Iterable
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from app.api.schemas import (
    BATCH_ANSWER,
    BATCH_REQUEST,
    CLASSIFY_ANSWER,
    CLASSIFY_REQUEST,
    ERROR_ANSWER,
    HEATMAP_ANSWER,
    HEATMAP_REQUEST,
    SAMPLE_IMAGE,
)
from app.errors import REGISTRY, ApiError, InvalidArgument, InvalidBase64, InvalidDeployName
from app.settings import Settings

_JSON = "application/json"
_TEMPLATE = files("app.api").joinpath("openapi.json").read_text(encoding="utf-8")
_HEADERS = {
    name: {"$ref": f"#/components/headers/{name}"}
    for name in json.loads(_TEMPLATE)["components"]["headers"]
}
_SCHEMAS = {
    "ClassifyRequest": CLASSIFY_REQUEST,
    "ClassifyAnswer": CLASSIFY_ANSWER,
    "BatchRequest": BATCH_REQUEST,
    "BatchAnswer": BATCH_ANSWER,
    "HeatmapRequest": HEATMAP_REQUEST,
    "HeatmapAnswer": HEATMAP_ANSWER,
    "Error": ERROR_ANSWER,
}
_TOKEN_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "apiKey", "in": "query", "name": "access_token"},
}
"""The places of an access token in a request, with ``access_tokens = on``."""

_ERRORS: list[type[ApiError]] = [*REGISTRY.values(), InvalidDeployName]

_SAMPLE_LOG_ID = 8589934592000001
_SAMPLE_RESULTS = [
    {"name": "velvet", "score": 0.04752865433692932},
    {"name": "theater curtain", "score": 0.03590526059269905},
]
"""What the demo model answers to SAMPLE_IMAGE with ``top_num`` 2; hiding a part of it changes
nothing."""

_SAMPLE_ERROR = {
    "error_code": InvalidBase64.error_code,
    "error_msg": InvalidBase64.error_msg,
    "error_detail": "image: character 0 is not base64",
}

_CALLS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "/{deploy_name}/ImageClassification": (
        {"red square": {"value": {"image": SAMPLE_IMAGE, "top_num": 2}}},
        "ClassifyAnswer",
        {"log_id": _SAMPLE_LOG_ID, "results": _SAMPLE_RESULTS},
    ),
    "/{deploy_name}/ImageClassification/batch": (
        {"two images": {"value": {"images": [SAMPLE_IMAGE, "%%%"], "top_num": 1}}},
        "BatchAnswer",
        {"log_id": _SAMPLE_LOG_ID, "answers": [{"results": _SAMPLE_RESULTS[:1]}, _SAMPLE_ERROR]},
    ),
    "/{deploy_name}/ImageClassification/heatmap": (
        {"a picture of one colour": {"value": {"image": SAMPLE_IMAGE}}},
        "HeatmapAnswer",
        {
            "log_id": _SAMPLE_LOG_ID,
            **_SAMPLE_RESULTS[0],
            **{"rows": 16, "cols": 16, "heat": [[0.0] * 16] * 16},
        },
    ),
}
"""Examples of requests, the schema of a result, and an example of it, by path."""


def describe_api(settings: Settings, deploy_names: Iterable[str]) -> dict[str, Any]:
    """Describe every path under the settings in force.

    Args:
        settings: the settings in force.
        deploy_names: the models that can be called; none if the reader may not know them.
    """
    document: dict[str, Any] = json.loads(_TEMPLATE)
    document["info"]["version"] = version("classifyd")
    document["components"]["schemas"] = _SCHEMAS | document["components"]["schemas"]
    if settings.access_tokens == "on":
        document["security"] = [{name: []} for name in _TOKEN_SCHEMES]
        document["components"]["securitySchemes"] = _TOKEN_SCHEMES
    names = sorted(deploy_names)
    for path, (requests, schema, answer) in _CALLS.items():
        operation = document["paths"][path]["post"]
        if names:
            operation["parameters"][0]["schema"]["enum"] = names
        operation["requestBody"]["content"][_JSON]["examples"] = requests
        operation["responses"] = _responses(settings, schema, answer)
    return document


def _responses(settings: Settings, schema: str, example: dict[str, Any]) -> dict[str, Any]:
    """The answers by status; under ``compat`` all are 200, because deployed clients need it."""
    result = {"result": {"value": example}}
    if settings.http_status == "compat":
        text = "A result, or an error, which has error_code in the body."
        either = {"oneOf": [_reference(schema), _reference("Error")]}
        return {"200": _response(text, either, result | _examples(settings, _ERRORS))}
    answers = {"200": _response("A result.", _reference(schema), result)}
    by_status: dict[int, list[type[ApiError]]] = {
        status: [error for error in _ERRORS if error.status == status]
        for status in sorted({error.status for error in _ERRORS})
    }
    for status, errors in (by_status | {405: [InvalidArgument]}).items():
        text = " ".join(f"{error.error_code}: {_meaning(error)}" for error in errors)
        answers[str(status)] = _response(text, _reference("Error"), _examples(settings, errors))
    return answers


def _response(text: str, schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    content = {_JSON: {"schema": schema, "examples": examples}}
    return {"description": text, "headers": _HEADERS, "content": content}


def _reference(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _examples(settings: Settings, errors: Iterable[type[ApiError]]) -> dict[str, Any]:
    return {
        f"{error.error_code} {error.__name__}": {
            "summary": _meaning(error),
            "value": _error_body(settings, error),
        }
        for error in errors
    }


def describe_errors(settings: Settings) -> list[dict[str, Any]]:
    """List every error with its status under the settings in force, by code."""
    return [
        {
            "code": error.error_code,
            "message": error.error_msg,
            "status": 200 if settings.http_status == "compat" else error.status,
            "meaning": _meaning(error),
            "example": _error_body(settings, error),
        }
        for error in sorted(_ERRORS, key=lambda error: error.error_code)
    ]


def _error_body(settings: Settings, error: type[ApiError]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "error_code": error.error_code,
        "error_msg": error.error_msg,
        "log_id": _SAMPLE_LOG_ID,
    }
    return body | ({"error_detail": "…"} if settings.error_detail == "body" else {})


def _meaning(error: type[ApiError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]
