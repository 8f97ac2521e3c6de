"""The photos of a source: how they are named, read and told apart."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

MAX_FILE_BYTES = 3 * 1024 * 1024
"""What 4 MiB of base64, the limit of the API, can hold."""

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a source.

    Attributes:
        name: its path in the source; bytes that are not UTF-8 as surrogates (PEP 383).
        size: its length in bytes, -1 if it is unknown.
        mark: changes with the content: a time, an entity tag, or the place in a tar.
    """

    name: str
    size: int
    mark: int | str


@dataclass(frozen=True)
class Content:
    """A photo's bytes, None if there are more than MAX_FILE_BYTES, with their SHA-256."""

    data: bytes | None
    size: int
    sha256: str


Read = Callable[[], Content]
"""Returns the content of one photo, or raises OSError if this one cannot be read."""


class Reader(Protocol):
    """Reads photos in any process; it is pickled to get there."""

    latency: bool
    """Whether reading mostly waits, so that many photos should be read at once."""

    def check(self) -> None:
        """Require that the source can be reached from this process.

        Raises:
            OperatorError: it cannot.
        """

    def read(self, photos: Iterable[Photo]) -> Iterator[Read]:
        """Return for each photo, in order, what reads it.

        Raises:
            OperatorError: the source itself is gone; raised by a ``Read`` too.
        """
        ...


@dataclass(frozen=True)
class Source:
    """A source and its photos.

    Attributes:
        name: as the user gave it, absolute if it is a path.
        reader: reads the photos.
        photos: in the order of their rows.
        passed_over: number of entries that are no photos: hidden files, links to folders, ...
    """

    name: str
    reader: Reader
    photos: list[Photo]
    passed_over: int

    def digest(self) -> str:
        """Return the SHA-256 of the list of photos: it changes with any of them."""
        digest = hashlib.sha256()
        for photo in self.photos:
            record = f"{photo.name}\0{photo.size}\0{photo.mark}\0\0"
            digest.update(record.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class Stream(Protocol):
    """What read_content reads from."""

    def read(self, size: int, /) -> bytes:
        """Return up to this number of bytes, none at the end."""
        ...


def read_content(stream: Stream, expected_bytes: int) -> Content:
    """Read a photo to its end; of a file that is too large, only its SHA-256 is kept.

    The expected size only saves memory: the file may have become longer or shorter.
    """
    data = stream.read(min(max(0, expected_bytes), MAX_FILE_BYTES) + 1)
    if len(data) > expected_bytes:
        data += stream.read(MAX_FILE_BYTES + 1 - len(data))
    digest, size = hashlib.sha256(data), len(data)
    if size <= MAX_FILE_BYTES:
        return Content(data, size, digest.hexdigest())
    while piece := stream.read(_PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return Content(None, size, digest.hexdigest())


def to_text(name: str) -> str:
    r"""Return a photo's name as valid Unicode: bytes that are not UTF-8 as ``\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
