"""Who calls: the access token of a request."""

from urllib.parse import parse_qs

from flask import request

from app.api.context import WorkerContext
from app.api.trace import Trace
from app.errors import AuthFailed


def authorize(context: WorkerContext, trace: Trace) -> None:
    """Let a call through when access tokens are off or it carries a valid one.

    Raises:
        AuthFailed: tokens are on and it has none that is valid.
    """
    if context.tokens is None:
        return
    try:
        trace.token = context.tokens.check(_token_of_request())
    except AuthFailed:
        context.metrics.count_rejected_token()
        raise
    context.metrics.count_token(trace.token)


def may_see_models(context: WorkerContext) -> bool:
    """Whether a page that is open to all may name the models to the caller of this request."""
    if context.tokens is None:
        return True
    try:
        context.tokens.check(_token_of_request())
    except AuthFailed:
        return False
    return True


def _token_of_request() -> str:
    return presented_token(request.headers.get("Authorization", ""), request.query_string)


def presented_token(authorization: str, query: bytes) -> str:
    """The token in the Authorization header, else in the query, as the vendor's clients do."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return parse_qs(query.decode("latin-1")).get("access_token", [""])[0]
