"""Photos in a tar, plain or compressed by gzip; nothing of it is written to a disk."""

import gzip
import tarfile
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from app.batch.photos import Content, Photo, Read, Source, read_content
from app.errors import OperatorError
from app.system.files import is_foreign

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


@dataclass
class TarReader:
    """Reads photos by their place in a tar.

    A plain tar is read anywhere; of a compressed one, each thread that calls ``read``
    decompresses everything before its next photo.
    """

    path: Path
    compressed: bool
    latency = False
    _local: Any = field(default=None, repr=False, compare=False)

    def check(self) -> None:
        """See Reader."""
        try:
            _open(self.path, self.compressed).close()
        except OSError as exc:
            raise OperatorError(f"{self.path} cannot be read: {exc.strerror}") from exc
        self._local = threading.local()

    def read(self, photos: Iterable[Photo]) -> Iterator[Read]:
        """See Reader; the calling thread reads, in the order of the tar."""
        if not self.compressed:
            with self.path.open("rb") as stream:
                yield from self._read_all(stream, photos)
            return
        if not hasattr(self._local, "stream"):
            self._local.stream = _open(self.path, self.compressed)
        # Kept open: the photos of the next shard are behind those of this one.
        yield from self._read_all(self._local.stream, photos)

    def _read_all(self, stream: BinaryIO, photos: Iterable[Photo]) -> Iterator[Read]:
        for photo in photos:
            yield partial(_identity, self._read(stream, photo))

    def _read(self, stream: BinaryIO, photo: Photo) -> Content:
        try:
            stream.seek(int(photo.mark))
            content = read_content(_Limited(stream, photo.size), photo.size)
        except (OSError, *_DAMAGE) as exc:
            raise OperatorError(f"{self.path} cannot be read at {photo.name!r}") from exc
        if content.size != photo.size:
            raise OperatorError(f"{self.path} ends in the middle of {photo.name!r}")
        return content


def _identity(content: Content) -> Content:
    return content


class _Limited:
    """The next bytes of a stream."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _open(path: Path, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


def list_tar(path: Path, compressed: bool) -> Source:
    """List the regular files of a tar, without hidden and foreign ones.

    Of several files of one name the last counts, as when it is extracted. A hard link is the
    file that it names.

    Raises:
        OSError: it cannot be read.
        OperatorError: it is damaged.
    """
    files: dict[str, Photo] = {}
    passed_over = 0
    try:
        for member in _members(path, compressed):
            photo = _describe(member, files)
            if photo is None:
                passed_over += not member.isdir()
            else:
                files[photo.name] = photo
    except _DAMAGE as exc:
        last = f"after {next(reversed(files))!r}" if files else "at its beginning"
        raise OperatorError(f"{path} is damaged {last}, or no tar") from exc
    photos = [photo for photo in files.values() if not _is_hidden(photo.name)]
    passed_over += len(files) - len(photos)
    photos.sort(key=lambda photo: photo.mark)
    return Source(str(path), TarReader(path, compressed), photos, passed_over)


class _Member(tarfile.TarInfo):
    """A member of a tar that is read to its end marker.

    ``tarfile`` takes a damaged or missing header after the first one for the end.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(str(exc)) from exc


def _members(path: Path, compressed: bool) -> Iterator[tarfile.TarInfo]:
    with (
        _open(path, compressed) as stream,
        tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member) as archive,
    ):
        for member in archive:
            yield member
            # Otherwise one for each file of the tar stays in memory.
            archive.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it


def _describe(member: tarfile.TarInfo, files: dict[str, Photo]) -> Photo | None:
    if member.islnk() and member.linkname in files:
        target = files[member.linkname]
        return Photo(member.name, target.size, target.mark)
    if not member.isfile() or member.issparse():
        return None
    return Photo(member.name, member.size, member.offset_data)


def _is_hidden(name: str) -> bool:
    parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
    return any(part.startswith(".") or is_foreign(part) for part in parts)
