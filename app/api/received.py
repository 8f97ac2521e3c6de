"""A request as it reached the app: its body is whole, or the failure to receive it is known."""

from dataclasses import dataclass

from flask import request

from app.errors import ApiError, ModelUnavailable

RECEIVED_KEY = "classifyd.received"
"""The key of the WSGI environ under which the server hands it over."""


@dataclass(frozen=True)
class ReceivedRequest:
    """What the server knows of a request beyond WSGI.

    Attributes:
        started: time.monotonic() when its head had been read.
        completed: time.monotonic() when its body had been read.
        body: the whole, of a request that has a place among those in flight; else None.
        body_failure: why its body was not read to the end, if it was not.
    """

    started: float
    completed: float
    body: bytes | None = None
    body_failure: ApiError | None = None


def current_received() -> ReceivedRequest:
    """Return what the server knows of the current request."""
    received: ReceivedRequest = request.environ[RECEIVED_KEY]
    return received


def admitted_body(refusal: ModelUnavailable) -> bytes:
    """Return the whole body of the current request.

    Args:
        refusal: raised where the request has no place.

    Raises:
        ApiError: its body could not be received.
        ModelUnavailable: the request was not admitted.
    """
    received = current_received()
    if received.body_failure is not None:
        raise received.body_failure
    if received.body is None:
        raise refusal
    return received.body
