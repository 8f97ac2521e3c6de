"""Checks a manifest against its JSON schema; errors name what was expected."""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from app.errors import PackageError

MAX_SHOWN = 60
"""Maximum number of characters of a wrong value in an error."""


def parse_json(raw: bytes, file: str) -> Any:
    """Parse JSON without the extensions that Python accepts.

    The bytes are UTF-8, with or without a byte-order mark; ``file`` names them in an error.

    Raises:
        PackageError: it is not UTF-8 or not JSON, or has a duplicate key, NaN or Infinity.
    """
    try:
        return json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as exc:
        raise PackageError(file, "expected UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise PackageError(file, f"expected JSON: {exc}") from exc


def check_schema(document: Any, file: str) -> None:
    """Check a parsed manifest against ``manifest.schema.json``.

    Raises:
        PackageError: with the most relevant wrong field.
    """
    _check(_schema(), document, file)


def check_steps(steps: Any, file: str) -> None:
    """Check the steps of a preprocessing on their own; see check_schema."""
    properties = {"preprocess": _schema()["properties"]["preprocess"]}
    schema = {"properties": properties, "$defs": _schema()["$defs"]}
    _check(schema, {"preprocess": steps}, file)


def _check(schema: dict[str, Any], document: Any, file: str) -> None:
    error = best_match(Draft202012Validator(schema).iter_errors(document))
    if error is not None:
        raise PackageError(file, _problem(error), field=_field(error.absolute_path))


def is_identifier(text: str) -> bool:
    """Tell whether a text can be a package's name or version."""
    return re.search(_schema()["$defs"]["identifier"]["pattern"], text) is not None


@cache
def _schema() -> dict[str, Any]:
    text = files("app.packages").joinpath("manifest.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"duplicate key {key!r}")
        document[key] = value
    return document


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _field(path: Iterable[str | int]) -> str:
    """Write a path as in the manual, such as ``preprocess[1].height``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _problem(error: ValidationError) -> str:
    schema: Any = error.schema
    found: Any = error.instance
    if error.validator == "required":
        return "missing: " + ", ".join(key for key in schema["required"] if key not in found)
    if error.validator == "additionalProperties":
        unknown = ", ".join(sorted(set(found) - set(schema["properties"])))
        shown = json.dumps(unknown[:MAX_SHOWN])[1:-1]  # a terminal may act on its characters
        return f"unknown: {shown}; known are: {', '.join(schema['properties'])}"
    shown = json.dumps(found)
    shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."
    expected = schema.get("description") or f"a JSON {schema.get('type', 'value')}"
    return f"found {shown}, expected {expected}"
