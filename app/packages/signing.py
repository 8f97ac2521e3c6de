"""Signatures of packages: Ed25519 over the manifest, which holds the SHA-256 of every other file.

Keys are PEM files, as ``openssl genpkey -algorithm ed25519`` writes them: PKCS #8 for private
keys, SubjectPublicKeyInfo for public keys (RFC 8410).
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from app.errors import PackageError, SettingsError
from app.packages.schema import parse_json
from app.packages.sealing import encode_base64
from app.system.files import is_foreign, read_regular

SIGNATURE_FILE = "signature.json"
ALGORITHM = "ed25519"

_CONTEXT = b"classifyd package manifest\n"
"""Prefix of the signed bytes, so that no signature for another purpose is valid here."""


@dataclass(frozen=True)
class TrustedKeys:
    """Public keys whose signatures are accepted, by fingerprint, and the folder of their files."""

    folder: Path
    keys: dict[str, Ed25519PublicKey]


def fingerprint(key: Ed25519PublicKey) -> str:
    """Identify a key by the SHA-256 of its 32 bytes, in hexadecimal."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key to sign with.

    Raises:
        SettingsError: the file cannot be read or holds no unencrypted Ed25519 private key.
    """
    key = _read_key(path, f"key {path}", partial(load_pem_private_key, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"key {path}: {_expected('private')}")
    return key


def read_trusted_keys(folder: Path, default: Path) -> TrustedKeys | None:
    """Read the keys of the setting ``trusted_keys``.

    If the folder is the setting's default and does not exist, no signature is required.

    Raises:
        SettingsError: a folder that was named does not exist, or a file in it is not a key.
    """
    if folder == default and not folder.exists():
        return None
    if not folder.is_dir():
        # A typing error must not disable the check.
        raise SettingsError(f"setting trusted_keys = {str(folder)!r}: expected a folder")
    paths = sorted(path for path in folder.glob("*.pem") if not is_foreign(path.name))
    keys = [_read_public_key(path) for path in paths]
    return TrustedKeys(folder, {fingerprint(key): key for key in keys})


def sign_manifest(raw: bytes, key: Ed25519PrivateKey) -> bytes:
    """Write the signature file for a manifest's bytes; the same input gives the same bytes."""
    document = {
        "algorithm": ALGORITHM,
        "key": fingerprint(key.public_key()),
        "signature": encode_base64(key.sign(_CONTEXT + raw)),
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def check_signature(raw: bytes, signature: bytes | None, trusted: TrustedKeys, file: str) -> None:
    """Check the signature of a manifest's bytes; ``file`` names the package in an error.

    Raises:
        PackageError: there is no signature, its key is not trusted, or it is not valid for
            this manifest.
    """
    if signature is None:
        raise PackageError(
            file, f"is not signed, but trusted_keys = {trusted.folder} requires a signature"
        )
    name, value = _parse(signature, f"{file}: {SIGNATURE_FILE}")
    if name not in trusted.keys:
        raise PackageError(
            file, f"is signed with the key {name[:64]}, which is not in {trusted.folder}"
        )
    try:
        trusted.keys[name].verify(value, _CONTEXT + raw)
    except InvalidSignature as exc:
        raise PackageError(file, "was changed after it was signed: the signature is wrong") from exc


def signer(signature: bytes, file: str) -> str:
    """Return the fingerprint in a signature file, without checking the signature.

    Raises:
        PackageError: it is not a signature file.
    """
    return _parse(signature, file)[0]


def _parse(signature: bytes, file: str) -> tuple[str, bytes]:
    match parse_json(signature, file):
        case {"algorithm": "ed25519", "key": str(key), "signature": str(value)}:
            try:
                return key, base64.b64decode(value, validate=True)
            except ValueError as exc:
                raise PackageError(file, "expected base64", field="signature") from exc
        case _:
            raise PackageError(file, f"expected algorithm {ALGORITHM}, key and signature")


def _read_public_key(path: Path) -> Ed25519PublicKey:
    key = _read_key(path, f"trusted_keys: {path}", load_pem_public_key, read_regular)
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"trusted_keys: {path}: {_expected('public')}")
    return key


def _read_key(
    path: Path,
    called: str,
    load: Callable[[bytes], object],
    read: Callable[[Path], bytes] = Path.read_bytes,
) -> object:
    """Load a key; None if the file does not hold one."""
    try:
        return load(read(path))
    except OSError as exc:
        raise SettingsError(f"{called} cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _expected(kind: str) -> str:
    label = f"{kind.upper()} KEY"
    return f"expected an Ed25519 {kind} key without a password, as PEM (-----BEGIN {label}-----)"
