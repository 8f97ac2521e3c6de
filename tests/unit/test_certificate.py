"""What is wrong with a TLS certificate, and the command of the documents that makes one."""

import datetime
import re
import shutil
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.x509 import DNSName, GeneralName, IPAddress

from app.cli.doctor.certificates import check_certificates
from app.server.certificate import Certificate, covers_machine, find_faults
from app.settings import PROJECT_ROOT, Settings
from tests.support.certificates import make_certificate
from tests.support.tools import find_program

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound


@pytest.mark.parametrize(
    ("days", "level", "text"),
    [
        ((-10, 40), None, ""),
        ((-10, 29.5), "warning", "expires in 29 days"),
        ((-10, -1), "failure", "expired on"),
        ((1, 40), "failure", "is not valid before"),
    ],
)
def test_dates_of_a_certificate(
    tmp_path: Path, days: tuple[float, float], level: str | None, text: str
) -> None:
    path, _ = make_certificate(tmp_path, *days)
    found = find_faults(path, "127.0.0.1")
    assert [fault.level for fault in found] == ([level] if level else [])
    assert all(text in fault.text for fault in found)


def test_the_earliest_end_in_the_chain_counts(tmp_path: Path) -> None:
    other = tmp_path / "issuer"
    other.mkdir()
    path, _ = make_certificate(tmp_path)
    issuer, _ = make_certificate(other, -20, -1)
    path.write_bytes(path.read_bytes() + issuer.read_bytes())
    (found,) = find_faults(path, "127.0.0.1")
    assert found.level == "failure"


@pytest.mark.parametrize(
    ("hosts", "host", "bind", "is_right"),
    [
        ("localhost", "server", "127.0.0.1", True),
        ("localhost", "server", "localhost", True),
        ("localhost 127.0.0.1 ::1", "server", EVERYWHERE, False),
        ("localhost", "server", "192.0.2.7", False),
        ("server", "server", EVERYWHERE, True),
        ("SERVER.example.com", "server", EVERYWHERE, True),
        ("server.example.com", "Server.example.com", "::", True),
        ("*.example.com", "server.example.com", EVERYWHERE, True),
        ("*.example.com", "server", EVERYWHERE, True),
        ("*.example.org", "server.example.com", EVERYWHERE, False),
        ("other.example.com", "server.example.com", EVERYWHERE, False),
        ("192.0.2.7", "server", "192.0.2.7", True),
        ("192.0.2.8", "server", "192.0.2.7", False),
        ("192.0.2.8", "server", EVERYWHERE, False),  # no address of this machine
        ("127.0.0.1", "server", "127.0.0.1", True),
    ],
)
def test_hosts_of_a_certificate(hosts: str, host: str, bind: str, is_right: bool) -> None:
    addresses = [each for each in hosts.split() if re.fullmatch(r"[\d.]+|.*:.*", each)]
    names = [each for each in hosts.split() if each not in addresses]
    moment = datetime.datetime.max
    certificate = Certificate(moment, moment, tuple(names), tuple(map(ip_address, addresses)))
    assert covers_machine(certificate, host, bind) is is_right


def test_a_certificate_without_names_is_a_warning(tmp_path: Path) -> None:
    path, _ = make_certificate(tmp_path, hosts=())
    (found,) = find_faults(path, "127.0.0.1")
    assert (found.level, "names no host" in found.text) == ("warning", True)


def test_a_certificate_for_another_host_is_a_warning_that_names_both(tmp_path: Path) -> None:
    path, _ = make_certificate(tmp_path, hosts=[DNSName("other.example.com")])
    (found,) = find_faults(path, EVERYWHERE)
    assert found.level == "warning"
    assert "covers other.example.com" in found.text
    assert socket.gethostname() in found.text


def test_a_file_that_cannot_be_read_or_parsed_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    for text, reason in ((None, "No such file"), ("no certificate", "cannot be parsed")):
        if text:
            path.write_text(text)
        (found,) = find_faults(path, "127.0.0.1")
        assert (found.level, reason in found.text) == ("warning", True)


SITE = """server {{
    server_name {names};
    ssl_certificate {path};
    location / {{
        proxy_pass http://127.0.0.1:8000;
    }}
}}
"""


@pytest.mark.parametrize(
    ("names", "days", "hosts", "levels"),
    [
        ("classify.example.com", 365, [DNSName("classify.example.com")], ["ok"]),
        ("classify.example.com", 365, [DNSName("*.example.com")], ["ok"]),
        ("_", 365, [DNSName("classify.example.com")], ["ok"]),
        ("other.example.com", 365, [DNSName("classify.example.com")], ["warning"]),
        ("classify.example.com", -1, [DNSName("classify.example.com")], ["failure"]),
        ("_", 20, [IPAddress(ip_address("192.0.2.7"))], ["warning"]),
    ],
)
def test_doctor_checks_the_certificate_of_nginx(
    tmp_path: Path, names: str, days: int, hosts: list[GeneralName], levels: list[str]
) -> None:
    path, _ = make_certificate(tmp_path, -10, days, hosts)
    (tmp_path / "site.conf").write_text(SITE.format(names=names, path=path))
    assert [found.level for found in check_certificates(Settings(), tmp_path)] == levels


def test_doctor_has_nothing_to_say_without_certificates(tmp_path: Path) -> None:
    assert list(check_certificates(Settings(), tmp_path)) == []


@pytest.mark.parametrize("page", ["docs/deploy.md", "docs/zh/deploy.md"])
@pytest.mark.parametrize("bind", [EVERYWHERE, "127.0.0.1"])
def test_the_command_of_the_documents_makes_a_right_certificate(
    tmp_path: Path, page: str, bind: str
) -> None:
    text = (PROJECT_ROOT / page).read_text(encoding="utf-8")
    (command,) = re.findall(r"^openssl req .*$", text, re.MULTILINE)
    (tmp_path / "var").mkdir()
    shell = shutil.which("sh") or "/bin/sh"
    assert find_program("openssl")
    subprocess.run([shell, "-c", command], cwd=tmp_path, check=True, capture_output=True)
    certificate, key = tmp_path / "var/cert.pem", tmp_path / "var/key.pem"
    settings = Settings(bind=bind, tls_certificate=certificate, tls_key=key)
    (found,) = check_certificates(settings, tmp_path)
    assert found.level == "ok", found
