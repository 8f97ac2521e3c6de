"""The TLS certificate: what keeps callers from accepting it."""

import datetime
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509

from app.errors import SettingsError
from app.reporting.counts import pluralise
from app.settings import Settings

RENEWAL_DAYS = 30
"""Time to renew a certificate; deploy/alerts.yml has the same."""

_HOW_TO_NAME_HOSTS = "docs/deploy.md has a command that makes a certificate with names"

_log = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Certificate:
    """What callers check of a certificate and its chain.

    Attributes:
        not_before: the latest begin in the chain, with a time zone.
        not_after: the earliest end in the chain, with a time zone.
        names: the DNS names of the subjectAltName; the common name is ignored, as by clients
            (RFC 9525, section 2).
        addresses: its IP addresses.
    """

    not_before: datetime.datetime
    not_after: datetime.datetime
    names: tuple[str, ...]
    addresses: tuple[Address, ...]

    def hosts(self) -> str:
        """Write what the certificate is valid for."""
        return ", ".join([*self.names, *map(str, self.addresses)])


@dataclass(frozen=True)
class Fault:
    """Something wrong with a certificate; with a failure callers refuse the connection now."""

    level: Literal["warning", "failure"]
    text: str
    to_do: str


def read_certificate(path: Path) -> Certificate:
    """Read a PEM file: the server's certificate and the others of its chain.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no certificate, or one that cannot be parsed.
    """
    chain = x509.load_pem_x509_certificates(path.read_bytes())
    try:
        found = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names, addresses = [], []
    else:
        names = found.get_values_for_type(x509.DNSName)
        addresses = found.get_values_for_type(x509.IPAddress)
    return Certificate(
        max(each.not_valid_before_utc for each in chain),
        min(each.not_valid_after_utc for each in chain),
        tuple(names),
        tuple(each for each in addresses if isinstance(each, Address)),
    )


def check_tls(settings: Settings) -> None:
    """Load the certificate and its key, when they are set.

    Raises:
        SettingsError: one of the two is missing, unreadable or does not fit the other.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise SettingsError("settings tls_certificate and tls_key: give both, or neither")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as exc:
        raise SettingsError(
            f"settings tls_certificate = {str(certificate)!r} and tls_key = {str(key)!r}: "
            "expected a PEM certificate and the unencrypted PEM key that belongs to it"
        ) from exc
    except OSError as exc:
        raise SettingsError(
            f"settings tls_certificate = {str(certificate)!r} and tls_key = {str(key)!r}: "
            f"{exc.strerror}; name files that the server's user may read"
        ) from exc


def log_faults(settings: Settings) -> None:
    """Log what is wrong with the server's certificate, when one is set."""
    if settings.tls_certificate is not None:
        for fault in find_faults(settings.tls_certificate, settings.bind):
            level = logging.ERROR if fault.level == "failure" else logging.WARNING
            _log.log(level, "%s; %s", fault.text, fault.to_do)


def find_faults(path: Path, bind: str) -> list[Fault]:
    """Find why callers refuse the server's certificate, or soon will.

    Args:
        path: the PEM file.
        bind: the address that the server listens on.
    """
    host = socket.gethostname()
    wanted = f"neither this machine's name {host} nor the address {bind}"
    return find_faults_for(path, lambda found: covers_machine(found, host, bind), wanted)


def find_faults_for(
    path: Path, is_right: Callable[[Certificate], bool], wanted: str
) -> list[Fault]:
    """Find why callers refuse a certificate, or soon will.

    Args:
        path: the PEM file.
        is_right: whether it covers the hosts that it should.
        wanted: those hosts, in words; the end of "the certificate covers a, but".
    """
    try:
        certificate = read_certificate(path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it cannot be parsed"
        text = f"the TLS certificate {path} cannot be checked: {reason}"
        return [Fault("warning", text, f"look at it with openssl x509 -noout -text -in {path}")]
    found = [_check_dates(certificate, path)]
    if not certificate.hosts():
        text = f"the TLS certificate {path} names no host in its subjectAltName"
        found.append(Fault("warning", text, f"most callers refuse it; {_HOW_TO_NAME_HOSTS}"))
    elif not is_right(certificate):
        text = f"the TLS certificate {path} covers {certificate.hosts()}, but {wanted}"
        to_do = f"right only if callers use what it covers; {_HOW_TO_NAME_HOSTS}"
        found.append(Fault("warning", text, to_do))
    return [fault for fault in found if fault is not None]


def _check_dates(certificate: Certificate, path: Path) -> Fault | None:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_before > now:
        text = f"the TLS certificate {path} is not valid before {_date(certificate.not_before)}"
        return Fault("failure", text, "callers refuse it; check the clock of this machine")
    if certificate.not_after <= now:
        text = f"the TLS certificate {path} expired on {_date(certificate.not_after)}"
        return Fault("failure", text, "callers refuse it; renew it")
    days_left = (certificate.not_after - now).days
    if days_left < RENEWAL_DAYS:
        end = f"in {pluralise(days_left, 'day')}, on {_date(certificate.not_after)}"
        return Fault("warning", f"the TLS certificate {path} expires {end}", "renew it")
    return None


def _date(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def covers_name(certificate: Certificate, host: str) -> bool:
    """Whether a certificate covers a DNS name (RFC 9525, section 6.3)."""
    host = host.lower()
    wanted = {host, f"*.{host.partition('.')[2]}"}
    return any(name.lower() in wanted for name in certificate.names)


def covers_machine(certificate: Certificate, host: str, bind: str) -> bool:
    """Whether callers can reach this machine by something that a certificate covers.

    Args:
        certificate: the certificate.
        host: the name of this machine. A short name may be in any domain: which one only DNS
            knows, which a start does not ask.
        bind: the address that the server listens on.
    """
    names = [bind, host, host.partition(".")[0]]
    if _is_loopback(bind):
        names.append("localhost")
    return (
        any(covers_name(certificate, name) for name in names)
        or ("." not in host and any(_is_in_domain(host, name) for name in certificate.names))
        or any(_is_reachable(address, bind) for address in certificate.addresses)
    )


def _is_in_domain(host: str, name: str) -> bool:
    first, _, domain = name.lower().partition(".")
    return bool(domain) and first in {host.lower(), "*"}


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def _is_reachable(address: Address, bind: str) -> bool:
    try:
        bound = ipaddress.ip_address(bind)
    except ValueError:
        return _is_own(address)
    if bound.is_unspecified:
        return not address.is_loopback and _is_own(address)
    return address == bound


def _is_own(address: Address) -> bool:
    """Whether an address is this machine's: a socket can be bound to no other."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
