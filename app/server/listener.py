"""The listening socket of a worker: which connections it accepts, and when."""

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent.server import StreamServer

if TYPE_CHECKING:
    from app.server.worker import Worker

YIELD_S = 0.002
"""How long a worker leaves a connection to those that have fewer; then it accepts it itself."""

REFUSED_PAUSE_S = 0.05
"""How long a worker waits after the system has refused it a connection, as without files."""


class Listener(StreamServer):  # type: ignore[misc]  # gevent has no types
    """Accepts connections for a worker, and leaves them to workers that have fewer.

    Args:
        worker: handles the connections.
        listener: the listening socket.
        spawn: the pool of the connections' greenlets.
        options: of a ``server_class`` of gunicorn's GeventWorker, and of TLS.
    """

    def __init__(self, worker: "Worker", listener: Any, *, spawn: Any, **options: Any) -> None:
        tls = {key: value for key, value in options.items() if key == "ssl_context"}
        handle = partial(worker.handle, listener.getsockname())
        super().__init__(listener, handle, spawn=spawn, **tls)
        if tls:
            worker.use_tls(tls["ssl_context"])
        self._worker = worker
        self._has_yielded = False
        self._is_one_of_many = worker.cfg.workers > 1
        if self._is_one_of_many:
            self.max_accept = 1

    def do_read(self) -> Any:
        """Accept a connection; None leaves it to others for a moment."""
        if not self._has_yielded and self._is_anothers_turn():
            self._has_yielded = True
            return self._pause(YIELD_S)
        self._has_yielded = False
        try:
            return super().do_read()
        except OSError as exc:
            if self.is_fatal_error(exc):
                raise
            self._worker.note_refused(exc)
            return self._pause(REFUSED_PAUSE_S)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        """Encrypt a connection and serve it, if the client has not reset it already."""
        with suppress(OSError):
            return super().wrap_socket_and_handle(client_socket, address)

    def _pause(self, seconds: float) -> None:
        self.stop_accepting()
        gevent.spawn_later(seconds, self._resume)

    def _resume(self) -> None:
        if self.started:
            self.start_accepting()

    def _is_anothers_turn(self) -> bool:
        worker = self._worker
        return self._is_one_of_many and worker.balance.is_anothers_turn(worker.slot)
