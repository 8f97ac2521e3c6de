"""Who calls: the access token of a request."""

from flask import Request, request

from app.api.parts import current_parts
from app.api.trace import current_trace
from app.errors import AuthFailed


def authorize() -> None:
    """Let a call through when access tokens are off or it carries a valid one.

    Raises:
        AuthFailed: tokens are on and it has none that is valid.
    """
    parts, trace = current_parts(), current_trace()
    if parts.tokens is None:
        return
    try:
        trace.token = parts.tokens.check(_presented(request))
    except AuthFailed:
        parts.metrics.count_rejected_token()
        raise
    parts.metrics.count_token(trace.token)


def _presented(asked: Request) -> str:
    """The token in the Authorization header, else in the query, as the vendor's clients do."""
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return asked.args.get("access_token", "")
