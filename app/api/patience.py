"""How long a client may take to send: in one pause, and in all.

A request thread reads a body with blocking calls, so a client that sends one byte now and
then would hold it for hours, and a hundred of them every thread there is.
"""

import contextlib
import socket
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from app.limits.lease import Lease

CHECK_INTERVAL_S = 0.5


class Patience:
    """Ends the reading from connections whose time is over.

    Args:
        pause_s: how long a client may stand still.
        body_s: how long it may take for a whole body.
    """

    def __init__(self, pause_s: float, body_s: float) -> None:
        self._pause_s = pause_s
        self._body_s = body_s
        self._ends: dict[socket.socket, float] = {}
        threading.Thread(target=self._watch, name="patience", daemon=True).start()

    def bound(
        self, connection: socket.socket | None, pause_s: float = 3600, body_s: float = 3600
    ) -> AbstractContextManager[None]:
        """Bound the reading in the block by the settings, or tighter.

        A pause that is too long raises TimeoutError in the reader; when the whole takes too
        long, the reader sees the end of the stream. An answer can be sent after both.

        Args:
            connection: the client's, None where the server is not gunicorn.
            pause_s: a shorter pause than that of the settings.
            body_s: a shorter time in all than that of the settings.
        """
        if connection is None:
            return nullcontext()
        pause_s, body_s = min(pause_s, self._pause_s), min(body_s, self._body_s)
        begin = partial(self._begin, connection, pause_s, body_s)
        return Lease(begin, partial(self._end, connection))

    def _begin(self, connection: socket.socket, pause_s: float, body_s: float) -> None:
        connection.settimeout(pause_s)
        self._ends[connection] = time.monotonic() + body_s

    def _end(self, connection: socket.socket) -> None:
        del self._ends[connection]
        # For the answer: a client that does not read it must not hold the thread either.
        if connection.gettimeout() != self._pause_s:
            connection.settimeout(self._pause_s)

    def _watch(self) -> None:
        while True:
            time.sleep(CHECK_INTERVAL_S)
            now = time.monotonic()
            for connection, end in list(self._ends.items()):
                if end < now:
                    _end_reading(connection)


def _end_reading(connection: socket.socket) -> None:
    # The base class's method: that of a TLS socket would take the encryption off as well.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RD)
