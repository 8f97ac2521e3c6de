"""Receiving a request body: bounded in bytes, in time, and in memory with all others."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from gunicorn.http.errors import ParseException

from app.errors import InvalidArgument, InvalidImageSize, ModelUnavailable
from app.limits.body_memory import EVICTED_DETAIL, Reservation
from app.server.connection import Connection

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
    """The body of one request.

    A body of known length is read from the connection: gunicorn's reader copies each byte five
    times, which under overload takes longer than the rest of a refusal.

    Args:
        stream: gunicorn's reader of a chunked body.
        connection: of the client.
        length: of the body in bytes, as announced.
        is_chunked: whether it has no announced length.

    Attributes:
        is_unfinished: whether a part of the body was left unread, so that the connection
            cannot be used again.
    """

    def __init__(
        self, stream: Any, connection: Connection, length: int, is_chunked: bool = False
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._pause_s = 0.0
        self._is_chunked = is_chunked
        self._left = 0 if is_chunked else length
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
            ModelUnavailable: there is no memory for it, or it had to make room for others.
        """
        if self._left > max_bytes:
            raise InvalidImageSize(_TOO_LONG)
        if not self._is_chunked and self._left <= len(self._connection.received):
            return self._take_whole(reservation)
        try:
            with self._bounded(timeouts):
                pieces = self._read_pieces(max_bytes, reservation)
        except _STREAM_ERRORS as exc:
            self.is_unfinished = True
            if reservation.is_evicted:
                raise ModelUnavailable(EVICTED_DETAIL) from exc
            raise _to_api_error(exc, timeouts) from exc
        if sum(map(len, pieces)) > max_bytes:
            raise InvalidImageSize(_TOO_LONG)
        reservation.complete()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def cut_off(self) -> None:
        """Let whoever reads the body see its end."""
        self._connection.end_reading()

    def discard(self) -> None:
        """Read and drop what is left of the body, so that the connection can be used again.

        A client that takes too long, or sends more than MAX_DISCARD_BYTES, is read no more.
        """
        if self.is_unfinished or not (self._left or self._is_chunked):
            return
        if self._left > MAX_DISCARD_BYTES:
            self.is_unfinished = True
            return
        try:
            with self._bounded(BodyTimeouts(DISCARD_PAUSE_S, DISCARD_S)):
                self._discard()
        except _STREAM_ERRORS:
            self.is_unfinished = True

    def _take_whole(self, reservation: Reservation) -> bytes:
        """Take a body that was received with its head."""
        reservation.grow(self._left)
        body = self._connection.take_received(self._left)
        self._left = 0
        reservation.complete()
        return body

    def _read_pieces(self, max_bytes: int, reservation: Reservation) -> list[bytes]:
        pieces: list[bytes] = []
        received = 0
        while (self._left or self._is_chunked) and received <= max_bytes:
            # Before it is read; what a short read left over serves the next one.
            step = READ_STEP_BYTES if received else FIRST_STEP_BYTES
            step = max(step, min(self._left, len(self._connection.received)))
            reservation.grow(max(0, received + step - reservation.size))
            piece = self._read_piece(step)
            if not piece:
                break
            pieces.append(piece)
            received += len(piece)
        return pieces

    def _read_piece(self, size: int) -> bytes:
        """Read what is there, at most so many bytes; nothing at the end of a chunked body."""
        if self._is_chunked:
            piece: bytes = self._stream.read(size)
            self._is_chunked = bool(piece)
            return piece
        connection, size = self._connection, min(size, self._left)
        piece = connection.take_received(size) or connection.receive(size, self._pause_s)
        self._count(len(piece))
        return piece

    def _count(self, size: int) -> int:
        if not size:
            raise ConnectionResetError
        self._left -= size
        return size

    def _discard(self) -> None:
        total = 0
        while self._left or self._is_chunked:
            total += self._drop_piece()
            if total > MAX_DISCARD_BYTES:
                self.is_unfinished = True
                return

    def _drop_piece(self) -> int:
        """Drop what is there, and say how much that was."""
        if self._is_chunked or self._connection.received:
            return len(self._read_piece(READ_STEP_BYTES))
        return self._count(self._connection.drop(self._left, self._pause_s))

    @contextmanager
    def _bounded(self, timeouts: BodyTimeouts) -> Iterator[None]:
        """Bound each read of the socket, and the block as a whole."""
        self._pause_s = timeouts.pause_s
        self._connection.client.settimeout(timeouts.pause_s)  # for gunicorn's reader
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
