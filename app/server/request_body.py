"""Receiving a request body: bounded in bytes, in time, and in memory with all others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.socket import socket
from gunicorn.http.errors import ParseException

from app.errors import InvalidArgument, InvalidImageSize
from app.limits.body_memory import Reservation

FIRST_STEP_BYTES = 16 * 1024
"""What a client that sends nothing reserves."""

READ_STEP_BYTES = 256 * 1024
"""What is reserved before it is read, once a body has begun to arrive."""

MAX_DISCARD_BYTES = 64 * 1024 * 1024
"""A client that sends somewhat too much can still read the error; a longer body is cut off."""

DISCARD_PAUSE_S = 2
"""A client that pauses for longer while its body is discarded waits for the answer."""

DISCARD_S = 10
"""Maximum time for which a body is discarded."""

_TOO_LONG = "the body is longer than any that can hold 4 MiB of base64"
_CUT_SHORT = "the body ended before its announced length"
_STREAM_ERRORS = (OSError, ParseException, gevent.Timeout)
"""What gunicorn's body readers and gevent raise; gevent.Timeout is no Exception."""


@dataclass(frozen=True)
class BodyTimeouts:
    """The time a client may take to send a body.

    Attributes:
        pause_s: between two pieces.
        total_s: for the whole body.
    """

    pause_s: float
    total_s: float


class RequestBody:
    """The body of one request, read from gunicorn's ``wsgi.input``.

    Args:
        environ: the WSGI environ of the request, as gunicorn's worker makes it.

    Attributes:
        is_unfinished: whether a part of the body was left unread, so that the connection
            cannot be used again.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._stream = environ["wsgi.input"]
        self._connection: socket = environ["gunicorn.socket"]
        announced = environ.get("CONTENT_LENGTH", "")
        self._length = int(announced) if announced.isdecimal() else None
        self._is_empty = not self._length and "HTTP_TRANSFER_ENCODING" not in environ
        self._is_complete = False
        self.is_unfinished = False

    def read(self, max_bytes: int, reservation: Reservation, timeouts: BodyTimeouts) -> bytes:
        """Read the whole body.

        Args:
            max_bytes: a longer body is refused.
            reservation: grows with what is read.
            timeouts: for the client.

        Raises:
            InvalidImageSize: the body is longer than ``max_bytes``.
            InvalidArgument: its framing is malformed, it ended early, or it came too slowly.
            ModelUnavailable: there is no memory for it.
        """
        if self._is_empty:
            return b""
        if (self._length or 0) > max_bytes:
            raise InvalidImageSize(_TOO_LONG)
        try:
            with self._bounded(timeouts):
                body = self._read_steps(max_bytes, reservation)
        except _STREAM_ERRORS as exc:
            self.is_unfinished = True
            raise _to_api_error(exc, timeouts) from exc
        if len(body) > max_bytes:
            raise InvalidImageSize(_TOO_LONG)
        if len(body) < (self._length or 0):
            self.is_unfinished = True
            raise InvalidArgument(_CUT_SHORT)
        self._is_complete = True
        reservation.complete()
        return body

    def discard(self) -> None:
        """Read and drop what is left of the body, so that the connection can be used again.

        A client that takes too long, or sends more than MAX_DISCARD_BYTES, is read no more.
        """
        if self._is_empty or self._is_complete or self.is_unfinished:
            return
        left = MAX_DISCARD_BYTES
        if (self._length or 0) > left:
            self.is_unfinished = True
            return
        try:
            with self._bounded(BodyTimeouts(DISCARD_PAUSE_S, DISCARD_S)):
                while left > 0 and (piece := self._stream.read(READ_STEP_BYTES)):
                    left -= len(piece)
        except _STREAM_ERRORS:
            left = 0
        self.is_unfinished = left <= 0

    def _read_steps(self, max_bytes: int, reservation: Reservation) -> bytes:
        pieces: list[bytes] = []
        received = 0
        while received <= max_bytes and received != self._length:
            missing = max_bytes + 1 if self._length is None else self._length
            step = min(missing - received, READ_STEP_BYTES if pieces else FIRST_STEP_BYTES)
            reservation.grow(step)
            piece = self._stream.read(step)
            if not piece:
                break
            pieces.append(piece)
            received += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @contextmanager
    def _bounded(self, timeouts: BodyTimeouts) -> Iterator[None]:
        """Bound each read of the socket, and the block as a whole."""
        self._connection.settimeout(timeouts.pause_s)
        with gevent.Timeout(timeouts.total_s):
            yield


def _to_api_error(exc: BaseException, timeouts: BodyTimeouts) -> InvalidArgument:
    if isinstance(exc, ParseException):
        return InvalidArgument("the chunked framing of the body is malformed")
    if isinstance(exc, TimeoutError):
        return InvalidArgument(f"the body paused for more than {timeouts.pause_s:.0f} s")
    if isinstance(exc, gevent.Timeout):
        return InvalidArgument(f"the body took longer than {timeouts.total_s:.0f} s")
    return InvalidArgument(_CUT_SHORT)
