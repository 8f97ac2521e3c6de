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
        is_admitted: whether it has a place among the requests in flight.
        body_failure: why its body was not read to the end, if it was not.
    """

    started: float
    completed: float
    is_admitted: bool = False
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
    if not received.is_admitted:
        raise refusal
    return request.get_data(cache=False)
