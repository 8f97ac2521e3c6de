"""The request's JSON schema, and the error that each violation stands for."""

from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from app.errors import REGISTRY, ApiError, InvalidArgument, MissingParameter

DEFAULT_TOP_NUM = 6

SAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR42mP8z0AaYGIY1TCqYdhqAABALgEf"
    "FO4+AgAAAABJRU5ErkJggg=="
)
"""A red png of 16 x 16 px."""

LOG_ID: dict[str, Any] = {
    "description": "Names this request in the log and in the header X-Log-Id.",
    "type": "integer",
    "minimum": 1,
    "maximum": 2**53 - 1,
}

CLASSIFY_REQUEST: dict[str, Any] = {
    "description": "One image. Keys that are not listed are ignored.",
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {
            "description": "The image file in base64, without a data: header.",
            "type": "string",
            "minLength": 1,
            "contentEncoding": "base64",
            "examples": [SAMPLE_IMAGE],
        },
        "top_num": {
            "description": "How many classes to return.",
            "default": DEFAULT_TOP_NUM,
            "anyOf": [
                {"type": "null"},
                {"type": "integer", "minimum": 1},
                # Not $ at the end: in Python it would let a final line feed through.
                {"type": "string", "pattern": "^0*[1-9][0-9]*(?![\\s\\S])"},
            ],
        },
    },
}

HEATMAP_REQUEST: dict[str, Any] = {
    "description": "One image. Keys that are not listed are ignored.",
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": CLASSIFY_REQUEST["properties"]["image"],
        "label": {
            "description": "The label of the class to explain; by default the top class.",
            "anyOf": [{"type": "null"}, {"type": "string"}],
        },
    },
}

MAX_BATCH_IMAGES = 64
"""Of one batch call; together they must fit into a body of 32 MiB."""

BATCH_REQUEST: dict[str, Any] = {
    "description": "Several images. Keys that are not listed are ignored.",
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {
            "description": "Each as image of ClassifyRequest; what is wrong with one is "
            "answered in its place.",
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_BATCH_IMAGES,
            "items": {"examples": [SAMPLE_IMAGE]},
        },
        "top_num": CLASSIFY_REQUEST["properties"]["top_num"],
    },
}

CLASSIFY_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["log_id", "results"],
    "additionalProperties": False,
    "properties": {
        "log_id": LOG_ID,
        "results": {
            "description": "The classes by descending score, equal scores by class index.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "score"],
                "additionalProperties": False,
                "properties": {
                    "name": {"description": "The label of the class.", "type": "string"},
                    "score": {"description": "The model's float32, unrounded.", "type": "number"},
                },
            },
        },
    },
}

HEATMAP_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["log_id", "name", "score", "rows", "cols", "heat"],
    "additionalProperties": False,
    "properties": {
        "log_id": LOG_ID,
        "name": {"description": "The label of the explained class.", "type": "string"},
        "score": {"description": "Its score, a float32, unrounded.", "type": "number"},
        "rows": {"description": "Rows of the heat map.", "type": "integer", "minimum": 1},
        "cols": {"description": "Columns of the heat map.", "type": "integer", "minimum": 1},
        "heat": {
            "description": "Rows of numbers from 0 to 1, for the part of the image on which the "
            "score depends most. They cover the whole upright image; parts that the model does "
            "not see are 0.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
    },
}

ERROR_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["error_code", "error_msg", "log_id"],
    "additionalProperties": False,
    "properties": {
        "error_code": {"type": "integer", "enum": sorted(REGISTRY)},
        "error_msg": {
            "type": "string",
            "enum": [REGISTRY[code].error_msg for code in sorted(REGISTRY)],
        },
        "log_id": LOG_ID,
        "error_detail": {
            "description": "What exactly was wrong; only with error_detail = body.",
            "type": "string",
        },
    },
}

_ERROR_FIELDS: dict[str, Any] = ERROR_ANSWER["properties"]

BATCH_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["log_id", "answers"],
    "additionalProperties": False,
    "properties": {
        "log_id": LOG_ID,
        "answers": {
            "description": "For each image, in their order, its results or its error.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "properties": {
                    "results": CLASSIFY_ANSWER["properties"]["results"],
                    "error_code": _ERROR_FIELDS["error_code"],
                    "error_msg": _ERROR_FIELDS["error_msg"],
                    "error_detail": {
                        "description": "What exactly was wrong with this image.",
                        "type": "string",
                    },
                },
            },
        },
    },
}

_VALIDATOR = Draft202012Validator(CLASSIFY_REQUEST)
_BATCH_VALIDATOR = Draft202012Validator(BATCH_REQUEST)
_HEATMAP_VALIDATOR = Draft202012Validator(HEATMAP_REQUEST)
_EXPECTED = {
    "image": "a base64 string",
    "images": f"a list of 1 to {MAX_BATCH_IMAGES} base64 strings",
    "top_num": "a positive whole number",
    "label": "a label of the model",
}


@dataclass(frozen=True)
class ClassifyRequest:
    """The fields of a valid request.

    Attributes:
        image: the base64 text, not yet checked.
        top_num: how many classes to return, at least 1.
    """

    image: str
    top_num: int


def validate_classify_request(payload: object) -> ClassifyRequest:
    """Check a parsed body against the schema.

    Raises:
        InvalidArgument: no object, or a field of the wrong type or value.
        MissingParameter: ``image`` is absent, null or empty.
    """
    if isinstance(payload, dict) and _is_plain(payload):
        return ClassifyRequest(payload["image"], _top_num(payload.get("top_num")))
    if isinstance(payload, dict) and payload.get("image") in (None, ""):
        raise MissingParameter("image: absent, null or empty, a base64 string wanted")
    for violation in _VALIDATOR.iter_errors(payload):
        raise _to_api_error(violation)
    assert isinstance(payload, dict)  # noqa: S101 - the schema said so
    return ClassifyRequest(payload["image"], _top_num(payload.get("top_num")))


def _is_plain(payload: dict[str, Any]) -> bool:
    """Whether a body is what nearly everybody sends, which the schema need not be asked about.

    Asking costs a tenth of a millisecond after an inference; a test holds the two together.
    """
    image, top_num = payload.get("image"), payload.get("top_num")
    is_image = isinstance(image, str) and image != ""
    return is_image and (top_num is None or (type(top_num) is int and top_num > 0))


@dataclass(frozen=True)
class BatchRequest:
    """The fields of a valid batch request.

    Attributes:
        images: each still to be checked as ``image`` of a ClassifyRequest.
        top_num: how many classes to return for each, at least 1.
    """

    images: list[object]
    top_num: int


def validate_batch_request(payload: object) -> BatchRequest:
    """Check a parsed batch body against the schema, without the single images.

    Raises:
        InvalidArgument: no object, or a field of the wrong type or value.
        MissingParameter: ``images`` is absent, null or empty.
    """
    if isinstance(payload, dict) and payload.get("images") in (None, []):
        raise MissingParameter("images: absent, null or empty, a list of base64 strings wanted")
    for violation in _BATCH_VALIDATOR.iter_errors(payload):
        raise _to_api_error(violation)
    assert isinstance(payload, dict)  # noqa: S101 - the schema said so
    return BatchRequest(payload["images"], _top_num(payload.get("top_num")))


@dataclass(frozen=True)
class HeatmapRequest:
    """The fields of a valid request for a heat map.

    Attributes:
        image: the base64 text, not yet checked.
        label: of the class to explain, not yet checked; None for the top class.
    """

    image: str
    label: str | None


def validate_heatmap_request(payload: object) -> HeatmapRequest:
    """Check a parsed body against the schema.

    Raises:
        InvalidArgument: no object, or a field of the wrong type.
        MissingParameter: ``image`` is absent, null or empty.
    """
    if isinstance(payload, dict) and payload.get("image") in (None, ""):
        raise MissingParameter("image: absent, null or empty, a base64 string wanted")
    for violation in _HEATMAP_VALIDATOR.iter_errors(payload):
        raise _to_api_error(violation)
    assert isinstance(payload, dict)  # noqa: S101 - the schema said so
    return HeatmapRequest(payload["image"], payload.get("label"))


def _to_api_error(violation: ValidationError) -> ApiError:
    if not violation.absolute_path:
        return InvalidArgument(f"the body is {_type_name(violation.instance)}, an object wanted")
    name = str(violation.absolute_path[0])
    return InvalidArgument(f"{name}: {_describe(violation.instance)}, {_EXPECTED[name]} wanted")


def _describe(value: object) -> str:
    """Numbers as they are, everything else by its type: it never repeats the image."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(value) if is_number else _type_name(value)


def _type_name(value: object) -> str:
    names = {
        bool: "a boolean",
        dict: "an object",
        float: "a number",
        int: "a number",
        list: "an array",
        str: "a string",
    }
    return names.get(type(value), "null")


def _top_num(value: Any) -> int:
    if value is None:
        return DEFAULT_TOP_NUM
    if isinstance(value, str):
        # Nobody has 10^9 classes, and int() refuses texts of many thousand digits.
        significant = value.lstrip("0")
        return int(significant) if len(significant) < 10 else 10**9
    return min(int(value), 10**9)
