"""Sealed packages: an encrypted model and a manifest signed by its publisher.

A package that needs a licence is always sealed. Editing its manifest to need none, or removing
the signature, leaves a model file that cannot be run.
"""

import base64
import io
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import PackageError, TamperedPackage
from app.packages.manifest import LicenceSpec, Manifest
from app.system.files import open_regular, read_regular

SIGNATURE_FILE = "manifest.sig"
"""The Ed25519 signature of the manifest's bytes, in base64."""

SEALED_MAGIC = b"classifyd-sealed-1\n"
NONCE_BYTES = 12
"""Recommended for AES-GCM: NIST SP 800-38D, section 5.2.1.1."""

MAX_MODEL_BYTES = 2**31 - 1
"""Limit of one call of the cipher."""


def check_licence_block(folder: Path, manifest: Manifest, raw: bytes) -> None:
    """Check that manifest and model are both sealed or both open, and check the signature.

    Raises:
        TamperedPackage: the manifest was changed after its publisher signed it.
    """
    model = folder / manifest.model.file
    if manifest.licence is not None:
        _check_signature(folder / SIGNATURE_FILE, manifest.licence, raw)
    elif _is_sealed(model):
        raise TamperedPackage(
            model,
            "the model is sealed, but the manifest needs no licence: the manifest was changed; "
            "install the package again from its publisher's archive",
        )


def seal_model(plain: bytes, key: bytes, manifest: Manifest, purpose: str = "") -> bytes:
    """Encrypt a package's model.

    Args:
        plain: its bytes, below 2 GiB.
        key: 32 bytes, for AES-256-GCM.
        manifest: with its licence block; name, version and publisher are authenticated.
        purpose: of the bytes, also authenticated; empty for the TorchScript file.
    """
    nonce = os.urandom(NONCE_BYTES)
    return SEALED_MAGIC + nonce + AESGCM(key).encrypt(nonce, plain, _identity(manifest, purpose))


def unseal_model(path: Path, key: bytes, manifest: Manifest, purpose: str = "") -> io.BytesIO:
    """Decrypt the output of seal_model into memory; plain bytes are never on a disk.

    Raises:
        TamperedPackage: the file or an authenticated field of the manifest was changed, or
            the key is of another publisher or deploy name.
        PackageError: the file cannot be read.
    """
    try:
        data = read_regular(path)
    except OSError as exc:
        raise PackageError(path, f"cannot be read: {exc.strerror}") from exc
    head = len(SEALED_MAGIC)
    nonce, cipher = data[head : head + NONCE_BYTES], data[head + NONCE_BYTES :]
    try:
        if not data.startswith(SEALED_MAGIC) or len(nonce) != NONCE_BYTES:
            raise InvalidTag
        return io.BytesIO(AESGCM(key).decrypt(nonce, cipher, _identity(manifest, purpose)))
    except InvalidTag as exc:
        raise TamperedPackage(
            path, "the sealed model does not open with the licence's key"
        ) from exc


def encode_base64(data: bytes) -> str:
    """Write the only base64 that decode_base64_strictly accepts for these bytes."""
    return base64.b64encode(data).decode()


def decode_base64_strictly(text: str, size_bytes: int) -> bytes:
    """Decode canonical base64 of a known length.

    Raises:
        ValueError: it has another length, or is not the base64 of encode_base64.
    """
    data = base64.b64decode(text, validate=True)
    # The unused bits of the last character allow several encodings of the same bytes.
    if len(data) != size_bytes or encode_base64(data) != text:
        raise ValueError("not canonical base64 of the expected length")
    return data


def _is_sealed(path: Path) -> bool:
    try:
        with open_regular(path) as stream:
            return stream.read(len(SEALED_MAGIC)) == SEALED_MAGIC
    except OSError:
        return False  # the check of the model's SHA-256 reports it


def _check_signature(path: Path, licence: LicenceSpec, raw: bytes) -> None:
    try:
        text = read_regular(path).decode("ascii")
        signature = decode_base64_strictly(text.removesuffix("\n"), 64)
        key = Ed25519PublicKey.from_public_bytes(decode_base64_strictly(licence.publisher_key, 32))
        key.verify(signature, raw)
    except (OSError, ValueError, InvalidSignature) as exc:
        raise TamperedPackage(
            path,
            "the manifest does not carry its publisher's signature: it or the signature was "
            "changed; install the package again from its publisher's archive",
        ) from exc


def _identity(manifest: Manifest, purpose: str) -> bytes:
    publisher_key = manifest.licence.publisher_key if manifest.licence else ""
    parts = [manifest.name, manifest.version, publisher_key]
    return "\0".join(parts + [purpose] * bool(purpose)).encode()
