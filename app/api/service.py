"""Flask without what the API has no use for; it would be paid for with every request."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter


class _NoSessions(SessionInterface):
    """Gives every request the same empty session, which refuses to be changed."""

    _session = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        pass


class Service(Flask):
    """A Flask app that knows no sessions, no coroutines, and takes any Host."""

    session_interface = _NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Route by the path alone: the name that a client calls the server by is its own."""
        if request is None:
            return super().create_url_adapter(None)
        environ = request.environ
        # WSGI has the bytes of the path as latin-1 (PEP 3333), and they are UTF-8.
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        return MapAdapter(
            self.url_map, "", "/", "", environ["wsgi.url_scheme"], path, request.method
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take a view as it is: none is a coroutine."""
        return func
