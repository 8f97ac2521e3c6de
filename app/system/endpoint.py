"""A server that a command calls, and how the command proves who it is and who answers."""

import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from app.errors import OperatorError, UnreachableError

TIMEOUT_S = 60


@dataclass(frozen=True)
class Trust:
    """Which certificate a client accepts.

    Attributes:
        certificates: PEM file of the accepted authorities; None for those of the system.
        names_host: whether the certificate must name the host. A server found on this machine
            presents the certificate that its settings name, which is not for 127.0.0.1.
    """

    certificates: Path | None = None
    names_host: bool = True

    def context(self) -> ssl.SSLContext:
        """Make the context of a client.

        Raises:
            OperatorError: the file cannot be read or holds no certificate.
        """
        try:
            context = ssl.create_default_context(cafile=self.certificates)
        except ssl.SSLError as exc:
            raise OperatorError(f"{self.certificates}: expected certificates in PEM form") from exc
        except OSError as exc:
            raise OperatorError(f"{self.certificates} cannot be read: {exc.strerror}") from exc
        if not self.names_host:
            context.check_hostname = False
            # The file may hold a certificate without its authority, or with it in a chain.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


@dataclass(frozen=True)
class Endpoint:
    """The address of an API, with what a client needs to call it.

    Attributes:
        path: with the query, which may hold a token.
        token: access token; empty for none. No message contains it.
        trust: for HTTPS; None for plain HTTP.
    """

    host: str
    port: int
    path: str
    token: str = field(default="", kw_only=True, repr=False)
    trust: Trust | None = field(default=None, kw_only=True)

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL to show: without the query, which may hold a token."""
        scheme = "https" if self.trust else "http"
        return f"{scheme}://{self.authority}{self.path.partition('?')[0]}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def connect(self, timeout_s: float = TIMEOUT_S) -> HTTPConnection:
        """Make a connection, without a proxy: images must not leave the local network."""
        if self.trust is None:
            return HTTPConnection(self.host, self.port, timeout=timeout_s)
        context = self.trust.context()
        return HTTPSConnection(self.host, self.port, timeout=timeout_s, context=context)

    def post(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        """Send JSON, and return the body and the headers of the answer.

        Raises:
            OperatorError: see Trust.context.
            UnreachableError: nobody answers, or not as a server with a trusted certificate.
        """
        connection = self.connect()
        try:
            headers = {"Content-Type": "application/json", **self.headers}
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            return response.read(), dict(response.headers)
        except (OSError, HTTPException) as exc:
            raise UnreachableError(f"{self.url} {_describe(exc)}") from exc
        finally:
            connection.close()


def _describe(exc: OSError | HTTPException) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = exc.verify_message
        return f"has a certificate that is not trusted: {reason}; name its authority with --cacert"
    if isinstance(exc, ssl.SSLError):
        return "does not speak TLS; try http:// instead of https://"
    if isinstance(exc, OSError) and exc.strerror:
        return f"does not answer: {exc.strerror}; start the server, or check the URL"
    return "does not answer with HTTP; check the URL, also for http:// in place of https://"
