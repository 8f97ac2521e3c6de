"""Certificates of test servers."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


def make_certificate(
    folder: Path,
    first_day: float = 0,
    last_day: float = 365,
    hosts: Sequence[x509.GeneralName] = LOCAL,
) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key over those in a folder; return both paths.

    Args:
        folder: where ``server.pem`` and ``server.key`` are written.
        first_day: when it becomes valid, in days from now.
        last_day: when it expires, in days from now.
        hosts: its subjectAltName; without any it has none.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(first_day))
        .not_valid_after(now + datetime.timedelta(last_day))
    )
    if hosts:
        certificate = certificate.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    signed = certificate.sign(key, hashes.SHA256())
    certificate_path, key_path = folder / "server.pem", folder / "server.key"
    certificate_path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path
