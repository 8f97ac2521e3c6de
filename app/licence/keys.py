"""Key pairs: the publisher's, which signs, and a machine's own, which opens content keys.

The content key of a deploy name is derived from the publisher's private key: a publisher has
one secret to keep, and a licence remains good for new versions.
"""

from pathlib import Path

from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import LicenceError
from app.system.files import atomic_write, read_regular

MACHINE_KEY_FILE = "machine.key"
"""In the state folder, readable only by its owner."""

KEY_BYTES = 32
WRAPPED_KEY_BYTES = 80
"""An HPKE message (RFC 9180): 32 of the ephemeral key, 32 of ours, 16 of the tag."""

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def make_publisher_key(path: Path) -> None:
    """Write a new Ed25519 private key to a file that only its owner can read.

    Raises:
        LicenceError: the file exists or cannot be written.
    """
    _write_private(path, Ed25519PrivateKey.generate())


def ensure_machine_key(state_dir: Path) -> X25519PrivateKey:
    """Read this machine's key pair, or create it for the owner of the state folder.

    Raises:
        LicenceError: it cannot be read or written, or is another kind of key.
    """
    path = state_dir / MACHINE_KEY_FILE
    if not path.exists():
        _write_private(path, X25519PrivateKey.generate(), owner_of=state_dir)
    return read_machine_key(state_dir)


def read_machine_key(state_dir: Path) -> X25519PrivateKey:
    """Read this machine's key pair.

    Raises:
        LicenceError: it cannot be read or is another kind of key.
    """
    path = state_dir / MACHINE_KEY_FILE
    try:
        key = serialization.load_pem_private_key(read_regular(path), password=None)
    except OSError as exc:
        raise LicenceError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError) as exc:
        raise LicenceError(f"{path}: expected an unencrypted private key in PEM") from exc
    if not isinstance(key, X25519PrivateKey):
        raise LicenceError(f"{path}: expected an X25519 private key")
    return key


def content_key(publisher: Ed25519PrivateKey, deploy_name: str) -> bytes:
    """Derive the 32 bytes that seal every package of one deploy name."""
    info = b"classifyd content key 1\0" + deploy_name.encode()
    return _derive(publisher.private_bytes_raw(), info)


def clock_key(machine: X25519PrivateKey) -> bytes:
    """Derive the 32 bytes that authenticate this machine's clock record."""
    return _derive(machine.private_bytes_raw(), b"classifyd clock record 1")


def wrap_key(key: bytes, machine_public: bytes, serial: str, deploy_name: str) -> bytes:
    """Encrypt a content key for one machine.

    Args:
        key: the content key.
        machine_public: the machine's raw public key, 32 bytes.
        serial: of the licence, bound in.
        deploy_name: of the key, bound in.

    Returns:
        WRAPPED_KEY_BYTES bytes.
    """
    public = X25519PublicKey.from_public_bytes(machine_public)
    return _SUITE.encrypt(key, public, info=_wrap_info(serial, deploy_name))


def unwrap_key(wrapped: bytes, machine: X25519PrivateKey, serial: str, deploy_name: str) -> bytes:
    """Decrypt what wrap_key returned.

    Raises:
        cryptography.exceptions.InvalidTag: it is for another machine, licence or name.
    """
    return _SUITE.decrypt(wrapped, machine, info=_wrap_info(serial, deploy_name))


def _wrap_info(serial: str, deploy_name: str) -> bytes:
    return b"\0".join([b"classifyd wrapped key 1", serial.encode(), deploy_name.encode()])


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)


def _write_private(
    path: Path, key: Ed25519PrivateKey | X25519PrivateKey, owner_of: Path | None = None
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600, exist_ok=False)  # reserves the name
        with atomic_write(path, 0o600, owner_of=owner_of) as stream:
            stream.write(pem)
    except FileExistsError as exc:
        raise LicenceError(f"{path} exists already; a key is never overwritten") from exc
    except OSError as exc:
        raise LicenceError(f"{path} cannot be written: {exc.strerror}") from exc
