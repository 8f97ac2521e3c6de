"""TLS of a worker: the context that encrypts its connections."""

import logging
import ssl
from functools import cache
from pathlib import Path
from typing import Any

import gevent.ssl

from app.server.certificate import read_certificate
from app.system.files import file_stamp

_log = logging.getLogger(__name__)


class TlsContext:
    """Encrypts accepted connections, with the certificate that is on the disk.

    Args:
        certificate: the PEM file of the certificate and its chain.
        key: the PEM file of its key.

    Attributes:
        not_after: when the certificate that is served expires, in seconds since the epoch; None
            if it cannot be parsed.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.not_after: float | None = None
        self._certificate, self._key = certificate, key
        self._loaded = self._seen = self._state()
        self._load()

    def wrap_socket(self, *arguments: Any, **options: Any) -> Any:
        """Wrap an accepted socket; the worker does the handshake, because it bounds its time."""
        return self._context.wrap_socket(*arguments, do_handshake_on_connect=False, **options)

    def refresh(self) -> bool:
        """Reload once the files have changed and then stayed the same since the last call.

        Two files are not replaced at the same moment. Returns whether they were loaded.
        """
        state = self._state()
        is_settled, self._seen = state == self._seen, state
        return is_settled and self.reload()

    def reload(self) -> bool:
        """Load the files if they have changed since the last attempt.

        If they cannot be used, which is logged, the certificate before them is kept.
        """
        state = self._state()
        if state == self._loaded:
            return False
        self._loaded = state
        try:
            self._load()
        except OSError as exc:
            is_mismatch = isinstance(exc, ssl.SSLError)
            reason = "the key does not belong to it" if is_mismatch else exc.strerror
            text = "%s has changed but cannot be used, the one before is still served: %s"
            _log.error(text, self._certificate, reason)
            return False
        _log.info("%s has changed and is served now", self._certificate)
        return True

    def _load(self) -> None:
        # gevent's: a stalled handshake in the standard library's context stops the event loop.
        # A new one each time: files that do not match would spoil the one in use.
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        self._context = context
        try:
            self.not_after = read_certificate(self._certificate).not_after.timestamp()
        except ValueError:
            self.not_after = None  # OpenSSL accepts more; log_faults says so

    def _state(self) -> tuple[object, ...]:
        return tuple(file_stamp(path) for path in (self._certificate, self._key))


def tls_context(config: Any, _default: Any) -> TlsContext:
    """Return the TLS context of this process: gunicorn's setting ``ssl_context``.

    The master calls it too, before it forks: so a worker that starts while the files are being
    replaced, or cannot be used, serves the certificate before them.

    Raises:
        OSError: the files cannot be used, and never could.
    """
    context = _open_context(Path(config.certfile), Path(config.keyfile))
    context.reload()
    return context


_open_context = cache(TlsContext)
