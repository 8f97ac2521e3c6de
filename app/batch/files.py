"""Photos that are files: those of a folder, or those that a list names."""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.batch.photos import Content, Photo, Read, Source, read_content
from app.errors import OperatorError
from app.system.files import is_foreign, open_regular

_FAULTS_OF_THE_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True)
class FileReader:
    """Reads files by their path in a folder.

    Attributes:
        root: the folder.
        inode: its number, by which a folder that is no longer mounted is noticed.
    """

    root: Path
    inode: int
    latency = False

    def check(self) -> None:
        """See Reader."""
        try:
            found = self.root.stat().st_ino
        except OSError as exc:
            raise OperatorError(
                f"{self.root} cannot be read: {exc.strerror}; it must be at the same path on "
                "every machine that takes part"
            ) from exc
        if found != self.inode:
            raise OperatorError(f"{self.root} is another folder now; is its disk still mounted?")

    def read(self, photos: Iterable[Photo]) -> Iterator[Read]:
        """See Reader."""
        return (partial(self._read, photo.name, photo.size) for photo in photos)

    def _read(self, name: str, size: int) -> Content:
        try:
            with open_regular(self.root / name) as stream:
                return read_content(stream, size)
        except OSError as exc:
            if exc.errno in _FAULTS_OF_THE_PROCESS:
                raise OperatorError(f"{self.root / name} cannot be read: {exc.strerror}") from exc
            self.check()
            raise


def list_folder(root: Path, out: Path) -> Source:
    """List the files of a folder and the folders in it, without the results folder.

    Hidden and foreign files are passed over. Links to files are followed, links to folders are
    not: they may lead in circles.

    Raises:
        OSError: a folder cannot be read.
        OperatorError: the folder is the results folder.
    """
    inode = root.stat().st_ino
    own = out.stat() if out.is_dir() else None
    if own and os.path.samestat(own, root.stat()):
        raise OperatorError(f"{root} is the results folder too; give another one with --out")
    photos, passed_over = [], 0
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.name.startswith(".") or is_foreign(entry.name):
                    passed_over += 1
                elif entry.is_dir(follow_symlinks=False):
                    if own is None or not os.path.samestat(own, entry.stat()):
                        folders.append(f"{name}/")
                elif entry.is_file() or _is_broken(entry):
                    photos.append(_describe(root, name))
                else:
                    passed_over += 1
    photos.sort(key=lambda photo: photo.name)
    return Source(str(root), FileReader(root, inode), photos, passed_over)


def _is_broken(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a link to something that does not exist: a row, as it may be a photo."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def read_list(path: Path) -> Source:
    """Read a list of paths, relative to the list: one a line, or each ended by a NUL byte.

    Raises:
        OSError: it cannot be read.
        OperatorError: it is no list.
    """
    data = path.read_bytes()
    separator = b"\0" if b"\0" in data else b"\n"
    if separator == b"\0" and not data.endswith(b"\0"):
        raise OperatorError(f"{path} is neither a list of paths nor a tar")
    lines = [
        line if separator == b"\0" else line.removesuffix(b"\r")
        for line in data.removeprefix(b"\xef\xbb\xbf").split(separator)
    ]
    names = dict.fromkeys(os.fsdecode(line) for line in lines if line)
    root = path.parent
    photos = [_describe(root, name) for name in names]
    return Source(str(path), FileReader(root, root.stat().st_ino), photos, 0)


def _describe(root: Path, name: str) -> Photo:
    try:
        status = os.stat(root / name)
    except (OSError, ValueError):
        return Photo(name, -1, 0)
    return Photo(name, status.st_size, status.st_mtime_ns)
