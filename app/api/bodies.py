"""The body of a request: from JSON to the bytes of the image file."""

import json
from typing import Any

import orjson
import pybase64

from app.errors import (
    InvalidArgument,
    InvalidBase64,
    InvalidImageSize,
    InvalidJson,
)
from app.reporting.counts import pluralise

MAX_BASE64_CHARACTERS = 4 * 1024 * 1024
"""4,194,304, the published limit."""

MAX_JSON_STRUCTURE = 100_000
"""Maximum number of brackets, braces and commas in a body; a valid request needs a few."""

_MAX_DIGITS = 40
_STRUCTURE = (b"[", b"{", b",")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE_SPACE = b" \t\r\n"
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/")


def parse_json(body: bytes, content_type: str) -> Any:
    """Parse the body as JSON.

    Raises:
        InvalidArgument: it has more values than any valid request, or it is not JSON and its
            Content-Type names a form: a wrong way of asking.
        InvalidJson: it is not JSON.
    """
    # Before objects are made: 32 MiB of "[]" would take 1 GB and hold the GIL for 2 s. None of
    # these characters is in base64. Counting takes longer than parsing what most clients send.
    is_long = len(body) > 2 * MAX_JSON_STRUCTURE
    if is_long and sum(map(body.count, _STRUCTURE)) > MAX_JSON_STRUCTURE:
        raise InvalidArgument(f"the body has more than {MAX_JSON_STRUCTURE} JSON values")
    try:
        return orjson.loads(body.removeprefix(_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as exc:
        refusal = exc
    try:
        # It is slower, and takes what orjson refuses though it is JSON: a lone surrogate, a
        # number beyond a float's range.
        return json.loads(
            body.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_int=_read_integer
        )
    except (ValueError, RecursionError) as exc:
        if content_type.strip().lower().startswith(_FORM_TYPES):
            raise InvalidArgument("the body is a form, a JSON object wanted") from exc
        raise InvalidJson(_describe_bad_json(body, refusal, exc)) from exc


def _read_integer(digits: str) -> int:
    """Read the first digits: int() takes the square of their number, and no field needs more."""
    return int(digits[:_MAX_DIGITS])


def _refuse_constant(name: str) -> None:
    """Python's parser takes NaN and Infinity, which are no JSON."""
    raise ValueError(name)


def _describe_bad_json(
    body: bytes, refusal: orjson.JSONDecodeError, second: ValueError | RecursionError
) -> str:
    if not body:
        return "the body is empty, a JSON object wanted"
    if isinstance(second, UnicodeDecodeError):
        return f"the body is not JSON: byte {second.start} is not UTF-8"
    return f"the body is not JSON, first wrong at line {refusal.lineno} column {refusal.colno}"


def decode_base64(text: str) -> bytes:
    """Decode the image field, strictly: the lax kind turns a data URI into noise.

    Raises:
        InvalidImageSize: more than 4 MiB of base64, white space not counted.
        InvalidBase64: a character outside the standard alphabet, or wrong padding.
    """
    try:
        characters = text.encode("ascii")
    except UnicodeEncodeError as exc:
        raise InvalidBase64(f"image: character {exc.start} is not base64") from exc
    if len(characters) > MAX_BASE64_CHARACTERS or any(map(characters.__contains__, _WHITE_SPACE)):
        characters = characters.translate(None, _WHITE_SPACE)
    if len(characters) > MAX_BASE64_CHARACTERS:
        raise InvalidImageSize(
            f"image: {pluralise(len(characters), 'character')} of base64, "
            f"at most {MAX_BASE64_CHARACTERS} wanted"
        )
    try:
        return pybase64.b64decode(characters, validate=True)
    except ValueError as exc:
        raise InvalidBase64(_describe_bad_base64(characters)) from exc


def _describe_bad_base64(characters: bytes) -> str:
    if characters[:5].lower() == b"data:":
        return "image: starts with a data: header, which must be cut off"
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = characters.rstrip(b"=")
    position = len(body) - len(body.lstrip(alphabet))
    if position < len(body):
        return f"image: character {position} is not base64 (white space not counted)"
    count = pluralise(len(characters), "character")
    return f"image: {count} with this padding make no whole base64"
