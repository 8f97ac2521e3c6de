"""Flask without what the API has no use for; it would be paid for with every request."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response
from flask.ctx import RequestContext
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter, Rule

MAX_ROUTES = 256
"""So many paths that were called are remembered with the view that they lead to."""


class _NoSessions(SessionInterface):
    """Gives every request the same empty session, which refuses to be changed."""

    _session = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        pass


class _BodyRequest(Request):
    """A request whose body is never taken for a form, so that it has no files to close."""

    def close(self) -> None:
        pass


class _RememberingContext(RequestContext):
    """Finds the view of a path that was called before without matching it again."""

    app: "Service"

    def match_request(self) -> None:
        asked, routes = self.request, self.app.routes
        known = routes.get((asked.method, asked.path))
        if known is not None:
            asked.url_rule, asked.view_args = known
            return
        super().match_request()
        if asked.url_rule is not None and len(routes) < MAX_ROUTES:
            routes[asked.method, asked.path] = asked.url_rule, asked.view_args


class Service(Flask):
    """A Flask app that knows no sessions, no coroutines, no teardown, and takes any Host."""

    request_class = _BodyRequest
    session_interface = _NoSessions()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.routes: dict[tuple[str, str], tuple[Rule, dict[str, Any] | None]] = {}

    def request_context(self, environ: dict[str, Any]) -> RequestContext:
        """Make the context of a request."""
        return _RememberingContext(self, environ)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Route by the path alone: the name that a client calls the server by is its own."""
        if request is None:
            return None  # what Flask says too, where no SERVER_NAME is set
        environ = request.environ
        # WSGI has the bytes of the path as latin-1 (PEP 3333), and they are UTF-8.
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
        return MapAdapter(
            self.url_map, "", "/", "", environ["wsgi.url_scheme"], path, request.method
        )

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Do nothing, as no function waits for it; nor for that of the app's context."""

    do_teardown_appcontext = do_teardown_request

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take a view as it is: none is a coroutine."""
        return func
