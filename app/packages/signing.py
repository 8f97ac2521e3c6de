"""Signatures of packages: Ed25519 over the manifest, which holds the SHA-256 of every other file.

Keys are PEM files as ``openssl genpkey -algorithm ed25519`` writes them: PKCS #8 for the
private one, SubjectPublicKeyInfo for the public one (RFC 8410).
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from app.errors import PackageError, SettingsError
from app.packages.schema import parse_json

SIGNATURE_FILE = "signature.json"
ALGORITHM = "ed25519"

_CONTEXT = b"classifyd package manifest\n"
"""Before the manifest's bytes, so that no signature made for another purpose fits."""


@dataclass(frozen=True)
class TrustedKeys:
    """Public keys that archives may be signed with.

    Attributes:
        folder: where they were read.
        keys: by fingerprint.
    """

    folder: Path
    keys: dict[str, Ed25519PublicKey]


def fingerprint(key: Ed25519PublicKey) -> str:
    """Name a key: the SHA-256 of its 32 bytes, in hexadecimal."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key to sign with.

    Raises:
        SettingsError: the file cannot be read or holds no plain Ed25519 private key.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as exc:
        raise SettingsError(f"key {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SettingsError(f"key {path}: {_expected('private', 'PRIVATE KEY')}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"key {path}: {_expected('private', 'PRIVATE KEY')}")
    return key


def read_trusted_keys(folder: Path, default: Path) -> TrustedKeys | None:
    """Read the keys of the setting ``trusted_keys``.

    Args:
        folder: the setting.
        default: its default; where that folder is not there, no signature is asked for.

    Raises:
        SettingsError: a folder that was named is not there, or a file in it is no key.
    """
    if folder == default and not folder.exists():
        return None
    if not folder.is_dir():
        # Never no check at all because of a typing error.
        raise SettingsError(f"setting trusted_keys = {str(folder)!r}: expected a folder")
    keys = [_read_public_key(path) for path in sorted(folder.glob("*.pem"))]
    return TrustedKeys(folder, {fingerprint(key): key for key in keys})


def sign_manifest(raw: bytes, key: Ed25519PrivateKey) -> bytes:
    """Write the signature file for a manifest's bytes; the same input gives the same bytes."""
    document = {
        "algorithm": ALGORITHM,
        "key": fingerprint(key.public_key()),
        "signature": base64.b64encode(key.sign(_CONTEXT + raw)).decode(),
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def check_signature(raw: bytes, signature: bytes | None, trusted: TrustedKeys, file: str) -> None:
    """Check a manifest's signature against the trusted keys.

    Args:
        raw: the manifest's bytes.
        signature: the signature file's bytes, None when there is none.
        trusted: the keys of whom packages are taken from.
        file: what to call the package in an error.

    Raises:
        PackageError: there is no signature, it is of a key that is not trusted, or it does
            not belong to this manifest.
    """
    if signature is None:
        raise PackageError(
            file, "", f"is not signed, but trusted_keys = {trusted.folder} asks for a signature"
        )
    name, value = _parse(signature, f"{file}: {SIGNATURE_FILE}")
    if name not in trusted.keys:
        raise PackageError(
            file, "", f"is signed with the key {name[:64]}, which is not in {trusted.folder}"
        )
    try:
        trusted.keys[name].verify(value, _CONTEXT + raw)
    except InvalidSignature as exc:
        raise PackageError(
            file, "", "was changed after it was signed: the signature is wrong"
        ) from exc


def signer(signature: bytes, file: str) -> str:
    """Return the fingerprint that a signature file names, which proves nothing by itself.

    Raises:
        PackageError: it is no signature file.
    """
    return _parse(signature, file)[0]


def _parse(signature: bytes, file: str) -> tuple[str, bytes]:
    match parse_json(signature, file):
        case {"algorithm": "ed25519", "key": str(key), "signature": str(value)}:
            try:
                return key, base64.b64decode(value, validate=True)
            except ValueError as exc:
                raise PackageError(file, "signature", "expected base64") from exc
        case _:
            raise PackageError(file, "", f"expected algorithm {ALGORITHM}, key and signature")


def _read_public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as exc:
        raise SettingsError(f"trusted_keys: {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SettingsError(f"trusted_keys: {path}: {_expected('public', 'PUBLIC KEY')}") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"trusted_keys: {path}: {_expected('public', 'PUBLIC KEY')}")
    return key


def _expected(kind: str, label: str) -> str:
    return f"expected an Ed25519 {kind} key without a password, as PEM (-----BEGIN {label}-----)"
