"""A socket that sends an answer in one piece."""

from typing import Any

from gevent.socket import socket


class HeldOutput:
    """Holds what gunicorn writes until it is flushed; everything else goes to the socket at once.

    gunicorn writes head and body apart. Each system call of the event loop lets a native thread
    take the GIL, and then the loop waits for it; and the head alone would wake the client.

    Args:
        client: the socket of a connection.

    Attributes:
        client: the same.
    """

    def __init__(self, client: socket) -> None:
        self.client = client
        self._held: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        """Keep bytes for ``flush``."""
        self._held.append(data)

    def flush(self) -> None:
        """Send what is held."""
        data = b"".join(self._held)
        self._held.clear()
        # gevent's sendall asks the kernel for the size of its buffer first.
        sent = self.client.send(data)
        if sent < len(data):
            self.client.sendall(data[sent:])

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the socket."""
        return getattr(self.client, name)
