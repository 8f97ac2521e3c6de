"""The TLS certificates of the server and of an nginx in front of it, for ``classifyd doctor``."""

import re
from collections.abc import Iterator
from pathlib import Path

from app.cli.doctor.finding import Finding, Findings
from app.cli.doctor.server import NGINX_FOLDER, find_sites
from app.errors import SettingsError
from app.server.certificate import (
    Certificate,
    Fault,
    check_tls,
    covers_name,
    find_faults,
    find_faults_for,
    read_certificate,
)
from app.settings import Settings


def check_certificates(settings: Settings, folder: Path = NGINX_FOLDER) -> Findings:
    """Check that callers can accept the certificates: their dates and the hosts they cover."""
    try:
        check_tls(settings)
    except SettingsError as exc:
        yield Finding("failure", "certificate", str(exc), "correct the setting")
    else:
        if settings.tls_certificate is not None:
            faults = find_faults(settings.tls_certificate, settings.bind)
            yield from _report(settings.tls_certificate, faults)
    for text in find_sites(settings, folder).values():
        hosts = _values("server_name", text)
        for path in dict.fromkeys(_values("ssl_certificate", text)):
            yield from _report(folder / path, _find_site_faults(folder / path, hosts))


def _values(directive: str, text: str) -> list[str]:
    """The values of a directive of nginx; those with a variable are only known to nginx."""
    found = re.findall(rf"^\s*{directive}\s+([^;]+);", text, re.MULTILINE)
    return [value for values in found for value in values.split() if "$" not in value]


def _find_site_faults(path: Path, hosts: list[str]) -> list[Fault]:
    """Find faults for the names in server_name; ``_``, patterns and the empty name are no hosts."""
    names = [host for host in hosts if re.fullmatch(r"[\w-]+(\.[\w-]+)+|localhost", host)]

    def is_right(certificate: Certificate) -> bool:
        return all(covers_name(certificate, name) for name in names)

    return find_faults_for(path, is_right, f"server_name is {', '.join(names)}")


def _report(path: Path, faults: list[Fault]) -> Iterator[Finding]:
    for fault in faults:
        yield Finding(fault.level, "certificate", fault.text, fault.to_do)
    if not faults:
        certificate = read_certificate(path)
        end = certificate.not_after.strftime("%Y-%m-%d")
        yield Finding("ok", "certificate", f"{path} covers {certificate.hosts()} until {end}")
