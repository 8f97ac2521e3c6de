"""The OpenAPI 3.1 description of the API, made from the schemas that validate."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from app.api.schemas import (
    BATCH_ANSWER,
    BATCH_REQUEST,
    CLASSIFY_ANSWER,
    CLASSIFY_REQUEST,
    ERROR_ANSWER,
    MAX_BATCH_IMAGES,
    SAMPLE_IMAGE,
)
from app.errors import REGISTRY, ApiError, InvalidArgument, InvalidBase64, InvalidDeployName
from app.settings import Settings

_JSON = "application/json"
_SAMPLE_LOG_ID = 8589934592000001
_SAMPLE_RESULTS = [{"name": "goldfish", "score": 0.9971342086791992}]

_HEADERS: dict[str, Any] = {
    "X-Log-Id": {
        "description": "The log_id, also of answers that have none in the body.",
        "schema": {"type": "integer"},
    },
    "X-Model-Version": {
        "description": "The version of the model that answered.",
        "schema": {"type": "string"},
    },
    "X-Error-Detail": {
        "description": "What exactly was wrong, in ASCII; it never repeats image data.",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "Milliseconds by stage (W3C Server Timing).",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "With 336100: seconds after which to try again.",
        "schema": {"type": "integer"},
    },
}

_TOKEN_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "query": {"type": "apiKey", "in": "query", "name": "access_token"},
}
"""Where an access token may be, with ``access_tokens = on``."""


def describe_api(settings: Settings, deploy_names: Iterable[str]) -> dict[str, Any]:
    """Describe every path as it answers under the settings in force.

    Args:
        settings: the settings in force.
        deploy_names: which models can be called.
    """
    names = sorted(deploy_names)
    asks_token = settings.access_tokens == "on"
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "classifyd",
            "version": version("classifyd"),
            "description": "A local server for trained image classifiers, "
            "compatible with EasyDL's local image classification service.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _TOKEN_SCHEMES] if asks_token else [],
        "tags": [{"name": "classification"}, {"name": "operation"}],
        "paths": {
            "/{deploy_name}/ImageClassification": {"post": _classify(settings, names)},
            "/{deploy_name}/ImageClassification/batch": {"post": _batch(settings, names)},
            "/healthz": {"get": _status("healthz", "Whether the process answers.")},
            "/readyz": {"get": _readiness()},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _status("openapi", "This description.")},
        },
        "components": {
            **({"securitySchemes": _TOKEN_SCHEMES} if asks_token else {}),
            "schemas": {
                "ClassifyRequest": CLASSIFY_REQUEST,
                "ClassifyAnswer": CLASSIFY_ANSWER,
                "BatchRequest": BATCH_REQUEST,
                "BatchAnswer": BATCH_ANSWER,
                "Error": ERROR_ANSWER,
            },
            "headers": _HEADERS,
        },
    }


def _classify(settings: Settings, deploy_names: list[str]) -> dict[str, Any]:
    return {
        "tags": ["classification"],
        "operationId": "classify",
        "summary": "Classify one image.",
        "description": "The body is read as JSON whatever its Content-Type; any query string "
        "is accepted. jpg, png or bmp; at most 4,194,304 characters of base64; sides of "
        "15 to 4096 px.",
        "parameters": [_deploy_name(deploy_names)],
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": _reference("ClassifyRequest"),
                    "examples": {
                        "red square": {"value": {"image": SAMPLE_IMAGE, "top_num": 2}},
                    },
                }
            },
        },
        "responses": _responses(settings, "ClassifyAnswer", _SAMPLE_ANSWER),
    }


def _batch(settings: Settings, deploy_names: list[str]) -> dict[str, Any]:
    samples = {"two images": {"value": {"images": [SAMPLE_IMAGE, "%%%"], "top_num": 1}}}
    content = {_JSON: {"schema": _reference("BatchRequest"), "examples": samples}}
    return {
        "tags": ["classification"],
        "operationId": "classify_batch",
        "summary": "Classify several images.",
        "description": f"At most {MAX_BATCH_IMAGES} images and 32 MiB in all, each within the "
        "limits of the single call. The call fails as a whole only when it cannot be read.",
        "parameters": [_deploy_name(deploy_names)],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(settings, "BatchAnswer", _SAMPLE_BATCH_ANSWER),
    }


_SAMPLE_BATCH_ANSWER = {
    "log_id": _SAMPLE_LOG_ID,
    "answers": [
        {"results": _SAMPLE_RESULTS},
        {
            "error_code": InvalidBase64.error_code,
            "error_msg": InvalidBase64.error_msg,
            "error_detail": "image: character 0 is not base64",
        },
    ],
}

_SAMPLE_ANSWER = {"log_id": _SAMPLE_LOG_ID, "results": _SAMPLE_RESULTS}


def _deploy_name(deploy_names: list[str]) -> dict[str, Any]:
    return {
        "name": "deploy_name",
        "in": "path",
        "required": True,
        "description": "The name under which the model is deployed; GET /readyz lists them.",
        "schema": {"type": "string", "enum": deploy_names},
    }


def _responses(settings: Settings, schema: str, example: dict[str, Any]) -> dict[str, Any]:
    """The answers by status: under ``compat`` all are 200, as deployed clients need it."""
    errors: list[type[ApiError]] = [*REGISTRY.values(), InvalidDeployName]
    if settings.http_status == "compat":
        content = {
            "schema": {"oneOf": [_reference(schema), _reference("Error")]},
            "examples": {"result": {"value": example}, **_examples(settings, errors)},
        }
        text = "A result, or an error: then the body has error_code."
        return {"200": {"description": text, "headers": _ALL_HEADERS, "content": {_JSON: content}}}
    result = {"schema": _reference(schema), "examples": {"result": {"value": example}}}
    answers: dict[str, Any] = {
        "200": {"description": "A result.", "headers": _ALL_HEADERS, "content": {_JSON: result}}
    }
    for status in sorted({error.status for error in errors}):
        alike = [error for error in errors if error.status == status]
        answers[str(status)] = _error_response(settings, alike)
    answers["405"] = _error_response(settings, [InvalidArgument])
    return answers


def _error_response(settings: Settings, errors: list[type[ApiError]]) -> dict[str, Any]:
    return {
        "description": " ".join(f"{error.error_code}: {_meaning(error)}" for error in errors),
        "headers": _ALL_HEADERS,
        "content": {
            _JSON: {"schema": _reference("Error"), "examples": _examples(settings, errors)}
        },
    }


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
    errors: list[type[ApiError]] = [*REGISTRY.values(), InvalidDeployName]
    return [
        {
            "code": error.error_code,
            "message": error.error_msg,
            "status": 200 if settings.http_status == "compat" else error.status,
            "meaning": _meaning(error),
            "example": _error_body(settings, error),
        }
        for error in sorted(errors, key=lambda error: error.error_code)
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


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


_ALL_HEADERS = {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}


def _status(operation: str, summary: str) -> dict[str, Any]:
    answer = {"description": "Always.", "content": {_JSON: {"schema": {"type": "object"}}}}
    return {
        "tags": ["operation"],
        "operationId": operation,
        "summary": summary,
        "responses": {"200": answer},
        "security": [],
    }


def _readiness() -> dict[str, Any]:
    text = {"type": "string"}
    served = {"type": "object", "required": ["version", "engine", "device"]}
    schema = {
        "type": "object",
        "required": ["ready", "serving", "reasons"],
        "properties": {
            "ready": {"type": "boolean"},
            "serving": {
                "description": "For each deploy name what answers it.",
                "type": "object",
                "additionalProperties": served,
            },
            "reasons": {
                "description": "For each deploy name that cannot be served, why.",
                "type": "object",
                "additionalProperties": text,
            },
        },
    }
    content = {_JSON: {"schema": schema}}
    operation = _status("readyz", "Whether every deploy name can be served, and if not, why.")
    operation["responses"] = {
        "200": {"description": "Ready.", "content": content},
        "503": {"description": "Not ready, for the reasons named.", "content": content},
    }
    return operation


def _metrics() -> dict[str, Any]:
    operation = _status("metrics", "Numbers of all workers for Prometheus.")
    del operation["security"]  # with access tokens it asks for one
    content = {"text/plain": {"schema": {"type": "string"}}}
    operation["responses"] = {
        "200": {"description": "Prometheus' text format.", "content": content}
    }
    return operation
