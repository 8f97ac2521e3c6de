"""A package as one file: a plain tar of what its manifest names.

Tar and not zip, because it is read from the front: the manifest comes first, then its
signature, and nothing of the rest is unpacked before both are right. Not compressed, because
the numbers of a trained model do not shrink, and what is not compressed cannot explode.

Of the format only what ``write_archive`` writes is read (POSIX.1-1988 "ustar" headers of
plain files): no link, device, folder, sparse file or extended header is even parsed.
"""

import hashlib
import io
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import OperatorError, PackageError
from app.packages.manifest import MANIFEST_FILE, parse_manifest
from app.packages.package import Package, load_package, read_package
from app.packages.schema import parse_json
from app.packages.sealing import SIGNATURE_FILE as SEAL_FILE
from app.packages.signing import (
    SIGNATURE_FILE,
    TrustedKeys,
    check_signature,
    read_private_key,
    sign_manifest,
)
from app.packages.staging import staged_folder, sync

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Of the manifest and of the signature, which are read into memory."""

MAX_TOTAL_BYTES = 8 * 1024**3
"""Of all files together; a ustar header holds no larger file."""

_BLOCK_BYTES = tarfile.BLOCKSIZE
_COPY_BYTES = 1024 * 1024


def write_archive(folder: Path, target: Path, key_path: Path | None = None) -> None:
    """Write a package's archive; the same package and key give the same bytes.

    Args:
        folder: the package, ``weights/NAME/VERSION``.
        target: the file to write.
        key_path: the private key to sign with; without it the signature that the package
            was installed with is kept.

    Raises:
        PackageError: the package is broken, or the archive cannot be written.
        SettingsError: the key cannot be read.
    """
    load_package(folder)
    raw = (folder / MANIFEST_FILE).read_bytes()
    if target.exists():
        raise PackageError(str(target), "", "exists already; name another file with -o")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with tarfile.open(temporary, "x", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, MANIFEST_FILE, io.BytesIO(raw), len(raw))
            signature = _signature(folder, raw, key_path)
            if signature is not None:
                _add(archive, SIGNATURE_FILE, io.BytesIO(signature), len(signature))
            if (folder / SEAL_FILE).exists():
                seal = (folder / SEAL_FILE).read_bytes()
                _add(archive, SEAL_FILE, io.BytesIO(seal), len(seal))
            for name in sorted(_named_files(raw, str(folder))):
                with (folder / name).open("rb") as stream:
                    _add(archive, name, stream, (folder / name).stat().st_size)
        sync(temporary)
        temporary.rename(target)
        sync(target.parent)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "a file is too large for an archive"
        raise PackageError(str(target), "", f"cannot be written: {reason}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def install_archive(archive: Path, weights_dir: Path, trusted: TrustedKeys | None) -> Package:
    """Unpack an archive into the weights folder, where it appears checked and whole.

    Args:
        archive: the file.
        weights_dir: the folder ``weights``; it is made when it is not there.
        trusted: the keys that it must be signed with one of, None for no such demand.

    Raises:
        PackageError: the archive is not what ``write_archive`` writes, its signature or the
            package is wrong, or the version exists already.
    """
    with _opened(archive) as members:
        raw = members.read(MANIFEST_FILE)
        signature = members.read(SIGNATURE_FILE) if members.name == SIGNATURE_FILE else None
        seal = members.read(SEAL_FILE) if members.name == SEAL_FILE else None
        if trusted is not None:
            check_signature(raw, signature, trusted, str(archive))
        manifest = parse_manifest(raw, f"{archive}: {MANIFEST_FILE}")
        with staged_folder(weights_dir / manifest.name / manifest.version) as folder:
            (folder / MANIFEST_FILE).write_bytes(raw)
            if signature is not None:
                (folder / SIGNATURE_FILE).write_bytes(signature)
            if seal is not None:
                (folder / SEAL_FILE).write_bytes(seal)
            members.unpack(_named_files(raw, str(archive)), folder)
            read_package(folder)
    return load_package(weights_dir / manifest.name / manifest.version)


class _Members:
    """The files of an archive, read from the front."""

    def __init__(self, stream: BinaryIO, archive: Path) -> None:
        self._stream = stream
        self._archive = archive
        self._left_bytes = MAX_TOTAL_BYTES
        self._size = 0
        self.name: str | None = None
        self._next()

    def read(self, name: str) -> bytes:
        """Return the content of the next file, a small one that must have this name."""
        if self.name != name:
            raise self._wrong(f"found {self._shown()}, expected {name}")
        if self._size > MAX_TEXT_BYTES:
            raise self._wrong(f"{name}: found {self._size} bytes, at most {MAX_TEXT_BYTES} wanted")
        data = b"".join(self._pieces())
        self._next()
        return data

    def unpack(self, expected: dict[str, str], folder: Path) -> None:
        """Write the files that are left; they must be those expected, by name and SHA-256."""
        missing = dict(expected)
        while self.name is not None:
            sha256 = missing.pop(self.name, None)
            if sha256 is None:
                raise self._wrong(f"found {self._shown()}, which the manifest does not name once")
            self._unpack_file(folder / self.name, sha256)
            self._next()
        if missing:
            raise self._wrong(f"missing: {', '.join(missing)}")

    def _unpack_file(self, path: Path, sha256: str) -> None:
        digest = hashlib.sha256()
        with path.open("xb") as target:
            for piece in self._pieces():
                digest.update(piece)
                target.write(piece)
        if digest.hexdigest() != sha256:
            raise self._wrong(f"{path.name} has another SHA-256 than the manifest says")

    def _pieces(self) -> Iterator[bytes]:
        left = self._size
        while left:
            piece = self._stream.read(min(left, _COPY_BYTES))
            if not piece:
                raise self._wrong("ends in the middle of a file")
            left -= len(piece)
            yield piece
        padding = -self._size % _BLOCK_BYTES
        if self._stream.read(padding) != bytes(padding):
            raise self._wrong("is damaged after a file")

    def _next(self) -> None:
        """Read the next header; name is None after the last file."""
        block = self._stream.read(_BLOCK_BYTES)
        if not any(block) and len(block) == _BLOCK_BYTES:
            self._expect_end()
            self.name = None
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as exc:
            raise self._wrong("is no archive of a package, or is damaged") from exc
        self.name, self._size = header.name, header.size
        if header.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise self._wrong(f"found {self._shown()}, which is no plain file")
        self._left_bytes -= self._size
        if self._size < 0 or self._left_bytes < 0:
            raise self._wrong(f"holds more than {MAX_TOTAL_BYTES} bytes")

    def _expect_end(self) -> None:
        rest = self._stream.read(tarfile.RECORDSIZE + 1)
        if len(rest) > tarfile.RECORDSIZE or any(rest):
            raise self._wrong("goes on after its end")

    def _shown(self) -> str:
        return "its end" if self.name is None else repr(self.name[:64])

    def _wrong(self, problem: str) -> PackageError:
        return PackageError(
            str(self._archive), "", f"{problem}; classifyd package archive writes archives"
        )


@contextmanager
def _opened(archive: Path) -> Iterator[_Members]:
    try:
        stream = archive.open("rb")
    except OSError as exc:
        raise OperatorError(f"{archive} cannot be read: {exc.strerror}") from exc
    with stream:
        yield _Members(stream, archive)


def _add(archive: tarfile.TarFile, name: str, stream: BinaryIO, size: int) -> None:
    """Add a file without anything of this machine: no time, owner or mode of its own."""
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = size, 0o644, 0
    archive.addfile(header, stream)


def _signature(folder: Path, raw: bytes, key_path: Path | None) -> bytes | None:
    if key_path is not None:
        return sign_manifest(raw, read_private_key(key_path))
    path = folder / SIGNATURE_FILE
    return path.read_bytes() if path.exists() else None


def _named_files(raw: bytes, file: str) -> dict[str, str]:
    """The SHA-256 of every file that a checked manifest names, wherever in it, by name."""
    named: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict) and value.keys() >= {"file", "sha256"}:
            named[value["file"]] = value["sha256"]
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                collect(inner)

    collect(parse_json(raw, file))
    reserved = named.keys() & {MANIFEST_FILE, SIGNATURE_FILE, SEAL_FILE}
    if reserved:
        raise PackageError(
            file, "", f"the manifest names {', '.join(reserved)} as one of its files"
        )
    return named
