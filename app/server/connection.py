"""A client's connection: its socket, and what was received ahead of the current request.

Python's socket methods let go of the GIL, also for a call that returns at once. Of an event loop
beside busy threads each such call costs a wait for the GIL, 0.2 ms on average: under tenfold
overload 1 % of the refusals then took 33 to 69 ms, against 9 to 14. So recv(2) and send(2) are
called here while the GIL is held; they never block (``MSG_DONTWAIT``).
"""

import ctypes
import errno
import os
from contextlib import suppress

import gevent
from gevent.socket import MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, SHUT_RD, SHUT_WR, socket, wait_read
from gevent.ssl import SSLSocket

LINGER_S = 2
"""How long a closed connection is still read, so that the client can read the answer."""

LINGER_BYTES = 1024 * 1024

_PIECE_BYTES = 8192

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL: without letting go of the GIL
_recv, _send = _libc.recv, _libc.send
_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_recv.restype = _send.restype = ctypes.c_ssize_t

_BUFFER_BYTES = 1024 * 1024
_buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
"""Of all connections: no greenlet waits between the call that fills it and its copy."""


class Connection:
    """What a worker does with a client's socket.

    Args:
        client: the socket.

    Attributes:
        client: the same.
        received: bytes behind the head of the current request, not yet used.
    """

    def __init__(self, client: socket) -> None:
        self.client = client
        self.received = b""
        self._descriptor = client.fileno()
        self._is_encrypted = isinstance(client, SSLSocket)

    def receive(self, size: int, timeout_s: float) -> bytes:
        """Wait for bytes; nothing when there will be none.

        Args:
            size: Maximum number of bytes; at most 1 MiB are received at once.
            timeout_s: how long the client may pause.

        Raises:
            TimeoutError: none came in time.
            OSError: the connection is broken.
        """
        if self._is_encrypted:
            self.client.settimeout(timeout_s)
            received: bytes = self.client.recv(size)
            return received
        return ctypes.string_at(_buffer, self._fill_buffer(size, timeout_s))

    def drop(self, size: int, timeout_s: float) -> int:
        """Wait for bytes, drop them, and say how many there were; else as ``receive``."""
        if self._is_encrypted:
            return len(self.receive(min(size, _PIECE_BYTES), timeout_s))
        # The kernel drops the bytes without copying them (tcp(7), MSG_TRUNC).
        return self._fill_buffer(size, timeout_s, MSG_TRUNC)

    def take_received(self, size: int) -> bytes:
        """Take at most so many of the bytes that were received ahead."""
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send an answer in one piece; the head alone would wake the client.

        Raises:
            TimeoutError: the client did not read it in time.
            OSError: the connection is broken.
        """
        sent = 0
        if not self._is_encrypted:
            flags = MSG_DONTWAIT | MSG_NOSIGNAL
            sent = max(0, _send(self._descriptor, data, len(data), flags))
        if sent < len(data):
            self.client.settimeout(timeout_s)
            self.client.sendall(data[sent:])

    def _fill_buffer(self, size: int, timeout_s: float, flags: int = 0) -> int:
        """Wait for bytes, and say how many there were."""
        size = min(size, _BUFFER_BYTES)
        while (count := _recv(self._descriptor, _buffer, size, MSG_DONTWAIT | flags)) < 0:
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                wait_read(self._descriptor, timeout_s, TimeoutError)
            elif code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return int(count)

    def end_reading(self) -> None:
        """Let whoever waits for bytes see their end; a request that just came is still answered."""
        with suppress(OSError):
            # The base class's method: that of a TLS socket would end the encryption.
            socket.shutdown(self.client, SHUT_RD)

    def close(self) -> None:
        """Close, but let the client read what was sent before.

        A socket that is closed with unread bytes resets the connection, and the reset can
        overtake the answer.
        """
        with suppress(OSError, gevent.Timeout), gevent.Timeout(LINGER_S):
            self.client.settimeout(LINGER_S)
            socket.shutdown(self.client, SHUT_WR)
            left = LINGER_BYTES
            while left > 0 and (piece := self.client.recv(_PIECE_BYTES)):
                left -= len(piece)
        self.client.close()
