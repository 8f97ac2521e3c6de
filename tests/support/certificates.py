"""Certificates of test servers."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_SHORT = datetime.timedelta(days=1)


def make_authority(folder: Path, name: str = "Test CA") -> tuple[Path, Path, Path]:
    """Write a certificate authority and a certificate for localhost that it signed.

    Returns:
        The paths of the authority, of the server's certificate and of its key.
    """
    folder.mkdir(exist_ok=True)
    # Mono reads no certificate with an elliptic curve.
    ca_key, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    own_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    # Authorities of the same name have the same serial number too: only the key tells them apart.
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key(), serial=1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    own = (
        _builder(own_name, ca_name, key.public_key(), serial=2)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_path, certificate_path, key_path = (folder / f"{n}.pem" for n in ("ca", "server", "key"))
    ca_path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    certificate_path.write_bytes(own.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(_pem(key))
    return ca_path, certificate_path, key_path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, serial: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(issuer, subject, key, serial, now - _SHORT, now + _SHORT)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


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
    key_path.write_bytes(_pem(key))
    return certificate_path, key_path
