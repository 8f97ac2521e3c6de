"""The request's body: from the socket to the bytes of the image file."""

import json
import socket
from typing import Any

import orjson
import pybase64
from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.patience import Patience
from app.errors import (
    InvalidArgument,
    InvalidBase64,
    InvalidImageSize,
    InvalidJson,
)

MAX_BODY_BYTES = 32 * 1024 * 1024
r"""No valid request is longer: 4 MiB of base64 in which each character is escaped as \u0041
takes 24 MiB. White space inside the base64 has the rest."""

MAX_BASE64_CHARACTERS = 4 * 1024 * 1024
"""4,194,304, the published limit."""

DRAIN_LIMIT_BYTES = 2 * MAX_BODY_BYTES
"""So that also a client that sends somewhat too much can read why it is refused."""

DRAIN_PAUSE_S = 2
"""A client that stands still for so long while it is drained wants to read, not to send."""

DRAIN_S = 10
"""A refused body is not worth a thread for longer."""

_CUT_SHORT = "the body ended before its announced length"
_DRAIN_STEP_BYTES = 256 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE_SPACE = b" \t\r\n"
_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/")


def read_body(environ: dict[str, Any], patience: Patience) -> bytes:
    """Read the whole body, whatever its Content-Type says.

    Args:
        environ: the request's, of a server whose ``wsgi.input`` ends with the body.
        patience: bounds how long the client may take.

    Raises:
        RequestEntityTooLarge: the body is longer than MAX_BODY_BYTES.
        InvalidArgument: the body ended early or stood still.
    """
    announced = environ.get("CONTENT_LENGTH", "")
    length = int(announced) if announced.isdigit() else 0
    if length > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    try:
        with patience.bound(_connection(environ)):
            body: bytes = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise InvalidArgument(_CUT_SHORT) from exc
    if len(body) < length:
        raise InvalidArgument(_CUT_SHORT)
    if len(body) > MAX_BODY_BYTES:
        raise RequestEntityTooLarge
    return body


def drain_body(request: Request, patience: Patience) -> None:
    """Read what the client still sends, else the closed connection eats the answer.

    Beyond DRAIN_LIMIT_BYTES nothing is read, and the connection is closed.
    """
    if (request.content_length or 0) > DRAIN_LIMIT_BYTES:
        return
    stream, left = request.environ["wsgi.input"], DRAIN_LIMIT_BYTES
    try:
        with patience.bound(_connection(request.environ), DRAIN_PAUSE_S, DRAIN_S):
            while left > 0 and (piece := stream.read(min(left, _DRAIN_STEP_BYTES))):
                left -= len(piece)
    except OSError:
        return


def _connection(environ: dict[str, Any]) -> socket.socket | None:
    """The client's socket, None where the server is not gunicorn."""
    connection: socket.socket | None = environ.get("gunicorn.socket")
    return connection


def parse_json(body: bytes, content_type: str) -> Any:
    """Parse the body as JSON.

    Raises:
        InvalidArgument: it is not JSON and its Content-Type names a form: a wrong way of
            asking.
        InvalidJson: it is not JSON.
    """
    try:
        return orjson.loads(body.removeprefix(_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as exc:
        refusal = exc
    try:
        # It is slower, and takes what orjson refuses though it is JSON: a lone surrogate, a
        # number beyond a float's range.
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        if content_type.strip().lower().startswith(_FORM_TYPES):
            raise InvalidArgument("the body is a form, a JSON object wanted") from exc
        raise InvalidJson(_describe_bad_json(body, refusal, exc)) from exc


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
            f"image: {len(characters)} characters of base64, at most {MAX_BASE64_CHARACTERS} wanted"
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
    return f"image: {len(characters)} characters with this padding are not whole base64"
