"""Sealed packages: an encrypted model and a manifest that its publisher has signed.

A package that needs a licence is always sealed. Whoever edits its manifest to need none, or
takes the signature away, is left with a model file that cannot be run.
"""

import base64
import binascii
import io
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import PackageError, TamperedPackage
from app.packages.manifest import LicenceSpec, Manifest

SIGNATURE_FILE = "manifest.sig"
"""The Ed25519 signature of the manifest's bytes, in base64."""

SEALED_MAGIC = b"classifyd-sealed-1\n"
NONCE_BYTES = 12
"""What AES-GCM is made for: NIST SP 800-38D, section 5.2.1.1."""

MAX_MODEL_BYTES = 2**31 - 1
"""The most that one call of the cipher takes."""


def check_licence_block(folder: Path, manifest: Manifest, raw: bytes) -> None:
    """Check that a manifest and its model agree on being sealed, and the signature if so.

    Args:
        folder: the package's.
        manifest: parsed from ``raw``.
        raw: the manifest's bytes.

    Raises:
        TamperedPackage: the manifest was changed after its publisher had signed it.
        PackageError: the model cannot be read.
    """
    model = folder / manifest.model.file
    if manifest.licence is not None:
        _check_signature(folder / SIGNATURE_FILE, manifest.licence, raw)
    elif is_sealed(model):
        raise TamperedPackage(
            str(model),
            "",
            "the model is sealed, but the manifest needs no licence: the manifest was changed; "
            "install the package again from its publisher's archive",
        )


def is_sealed(path: Path) -> bool:
    """Say whether a model file is encrypted; one that cannot be read is not."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(SEALED_MAGIC)) == SEALED_MAGIC
    except OSError:
        return False


def seal_model(plain: bytes, key: bytes, manifest: Manifest, form: str = "") -> bytes:
    """Encrypt a package's model.

    Args:
        plain: its bytes, below 2 GiB.
        key: 32 bytes, for AES-256-GCM.
        manifest: with its licence block; its name, version and publisher are bound in.
        form: what the bytes are, bound in as well; empty for the TorchScript file.
    """
    nonce = os.urandom(NONCE_BYTES)
    return SEALED_MAGIC + nonce + AESGCM(key).encrypt(nonce, plain, _identity(manifest, form))


def unseal_model(path: Path, key: bytes, manifest: Manifest, form: str = "") -> io.BytesIO:
    """Decrypt what seal_model made into memory; the plain bytes never touch a disk.

    Raises:
        TamperedPackage: the file, or what of the manifest is bound to it, was changed, or
            the key is of another publisher or deploy name.
        PackageError: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise PackageError(str(path), "", f"cannot be read: {exc.strerror}") from exc
    head = len(SEALED_MAGIC)
    nonce, cipher = data[head : head + NONCE_BYTES], data[head + NONCE_BYTES :]
    try:
        if not data.startswith(SEALED_MAGIC) or len(nonce) != NONCE_BYTES:
            raise InvalidTag
        return io.BytesIO(AESGCM(key).decrypt(nonce, cipher, _identity(manifest, form)))
    except InvalidTag as exc:
        raise TamperedPackage(
            str(path), "", "the sealed model does not open with the licence's key"
        ) from exc


def decode_base64_strictly(text: str, size_bytes: int) -> bytes:
    """Decode canonical base64 of a known length.

    Raises:
        ValueError: it has another length or another spelling than the encoder's.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError("no base64") from exc
    # Spare bits in the last character: two spellings of one value are one too many.
    if len(data) != size_bytes or base64.b64encode(data).decode() != text:
        raise ValueError("no canonical base64 of the expected length")
    return data


def _check_signature(path: Path, licence: LicenceSpec, raw: bytes) -> None:
    try:
        text = path.read_bytes().decode("ascii")
        signature = decode_base64_strictly(text.removesuffix("\n"), 64)
        key = Ed25519PublicKey.from_public_bytes(decode_base64_strictly(licence.publisher_key, 32))
        key.verify(signature, raw)
    except (OSError, ValueError, InvalidSignature) as exc:
        raise TamperedPackage(
            str(path),
            "",
            "the manifest does not carry its publisher's signature: it or the signature was "
            "changed; install the package again from its publisher's archive",
        ) from exc


def _identity(manifest: Manifest, form: str) -> bytes:
    publisher_key = manifest.licence.publisher_key if manifest.licence else ""
    parts = [manifest.name, manifest.version, publisher_key]
    return "\0".join(parts + [form] * bool(form)).encode()
