"""A package as one file: a plain tar of the files that its manifest names.

A tar is read from the front, unlike a zip: the manifest comes first, then its signature, and
nothing else is unpacked before both are checked. It is not compressed: the weights of a
trained model barely shrink, and an uncompressed archive cannot be a decompression bomb.

Only what ``write_archive`` writes is read (POSIX.1-1988 "ustar" headers of regular files):
links, devices, folders, sparse files and extended headers are not even parsed.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator
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
from app.packages.staging import staged_folder
from app.system.files import atomic_write

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Of the manifest and of each signature, which are read into memory."""

MAX_TOTAL_BYTES = 8 * 1024**3
"""Of all files together; a ustar header cannot describe a larger file."""

_BLOCK_BYTES = tarfile.BLOCKSIZE
_COPY_BYTES = 1024 * 1024


def write_archive(folder: Path, target: Path, key_path: Path | None = None) -> None:
    """Write a package's archive; the same package and key give the same bytes.

    It is signed with a private key; without one, the signature that the package was installed
    with is kept.

    Raises:
        PackageError: the package is broken, or the archive cannot be written.
        SettingsError: the key cannot be read.
    """
    load_package(folder)
    raw = (folder / MANIFEST_FILE).read_bytes()
    if target.exists():
        raise PackageError(target, "exists already; name another file with -o")
    try:
        with (
            atomic_write(target) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            _add(archive, MANIFEST_FILE, raw)
            if key_path is not None:
                _add(archive, SIGNATURE_FILE, sign_manifest(raw, read_private_key(key_path)))
            elif (folder / SIGNATURE_FILE).exists():
                _add(archive, SIGNATURE_FILE, folder / SIGNATURE_FILE)
            if (folder / SEAL_FILE).exists():
                _add(archive, SEAL_FILE, folder / SEAL_FILE)
            for name in sorted(_named_files(raw, str(folder))):
                _add(archive, name, folder / name)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "a file is too large for an archive"
        raise PackageError(target, f"cannot be written: {reason}") from exc


def install_archive(archive: Path, weights_dir: Path, trusted: TrustedKeys | None) -> Package:
    """Unpack an archive into the weights folder, where it appears checked and complete.

    One of the trusted keys must have signed it; None requires no signature.

    Raises:
        PackageError: the archive is not what ``write_archive`` writes, its signature or the
            package is wrong, or the version exists already.
    """
    try:
        stream = archive.open("rb")
    except OSError as exc:
        raise OperatorError(f"{archive} cannot be read: {exc.strerror}") from exc
    with stream:
        members = _Members(stream, archive)
        raw = members.read(MANIFEST_FILE)
        names = (SIGNATURE_FILE, SEAL_FILE)
        signatures = {name: members.read(name) for name in names if members.name == name}
        if trusted is not None:
            check_signature(raw, signatures.get(SIGNATURE_FILE), trusted, str(archive))
        manifest = parse_manifest(raw, f"{archive}: {MANIFEST_FILE}")
        with staged_folder(weights_dir / manifest.name / manifest.version) as folder:
            for name, data in {MANIFEST_FILE: raw, **signatures}.items():
                (folder / name).write_bytes(data)
            members.unpack(_named_files(raw, str(archive)), folder)
            read_package(folder)
    return load_package(weights_dir / manifest.name / manifest.version)


class _Members:
    """The files of an archive, read from the front; ``name`` is None after the last one."""

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
            raise self._wrong(f"{name}: found {self._size} bytes, at most {MAX_TEXT_BYTES} allowed")
        data = b"".join(self._pieces())
        self._next()
        return data

    def unpack(self, expected: dict[str, str], folder: Path) -> None:
        """Write the remaining files, which must be the expected ones by name and SHA-256."""
        missing = dict(expected)
        while self.name is not None:
            sha256 = missing.pop(self.name, None)
            if sha256 is None:
                raise self._wrong(
                    f"found {self._shown()}, which is not in the manifest or comes twice"
                )
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
            raise self._wrong(f"{path.name} does not have the SHA-256 of the manifest")

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
        block = self._stream.read(_BLOCK_BYTES)
        if not any(block) and len(block) == _BLOCK_BYTES:
            rest = self._stream.read(tarfile.RECORDSIZE + 1)
            if len(rest) > tarfile.RECORDSIZE or any(rest):
                raise self._wrong("has data after its end")
            self.name = None
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as exc:
            raise self._wrong("is not a package archive, or is damaged") from exc
        self.name, self._size = header.name, header.size
        if header.type not in {tarfile.REGTYPE, tarfile.AREGTYPE}:
            raise self._wrong(f"found {self._shown()}, which is not a regular file")
        self._left_bytes -= self._size
        if self._size < 0 or self._left_bytes < 0:
            raise self._wrong(f"holds more than {MAX_TOTAL_BYTES} bytes")

    def _shown(self) -> str:
        return "its end" if self.name is None else repr(self.name[:64])

    def _wrong(self, problem: str) -> PackageError:
        return PackageError(self._archive, f"{problem}; classifyd package archive writes archives")


def _add(archive: tarfile.TarFile, name: str, source: Path | bytes) -> None:
    """Add a file with a fixed time, owner and mode, so that the archive is reproducible."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        header = tarfile.TarInfo(name)
        header.size = stream.seek(0, io.SEEK_END)
        header.mode, header.mtime = 0o644, 0
        stream.seek(0)
        archive.addfile(header, stream)


def _named_files(raw: bytes, file: str) -> dict[str, str]:
    """Find the files that a checked manifest names at any depth: their SHA-256 by name."""
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
        raise PackageError(file, f"the manifest names {', '.join(reserved)} as one of its files")
    return named
