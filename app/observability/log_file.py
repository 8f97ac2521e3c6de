"""A log file that several processes write and that may be rotated at any time.

Each line is one write at the end of the file (O_APPEND), so that lines of several workers
never mix, and a file that ``copytruncate`` has emptied is filled from its beginning. Before
each line the name is looked up again: when logrotate, or another worker, has renamed the
file, the line goes into a new one.
"""

import fcntl
import logging
import os
import sys
from pathlib import Path

_MIB = 1024 * 1024


class RotatedFileHandler(logging.Handler):
    """Writes lines to a file that may be renamed, removed or truncated by others.

    Args:
        path: the file; its folder must exist.
        max_mib: size at which it is renamed to ``NAME.1``, 0 for never.
        keep: how many renamed files are kept.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, max_mib: int = 0, keep: int = 5) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_mib * _MIB
        self._keep = keep
        self._descriptor = _open(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; where that fails it goes to standard error, and service goes on."""
        line = self.format(record) + "\n"
        try:
            self._follow()
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            sys.stderr.write(line)

    def close(self) -> None:
        """Close the file; at a reload another handler takes over."""
        os.close(self._descriptor)
        super().close()

    def _follow(self) -> None:
        """Open the file anew when its name means another one, or after rotating it."""
        held = os.fstat(self._descriptor)
        if _is_named(self._path, held) and self._max_bytes and held.st_size >= self._max_bytes:
            self._rotate(held)
        if not _is_named(self._path, held):
            fresh = _open(self._path)
            os.close(self._descriptor)
            self._descriptor = fresh

    def _rotate(self, held: os.stat_result) -> None:
        """Rename the file and those renamed before, unless another process was faster."""
        lock = os.open(self._path.with_name(self._path.name + ".lock"), _LOCK_FLAGS, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_named(self._path, held):
                return
            for number in range(self._keep - 1, 0, -1):
                if (older := numbered(self._path, number)).exists():
                    older.replace(numbered(self._path, number + 1))
            self._path.replace(numbered(self._path, 1))
        finally:
            os.close(lock)


_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def numbered(path: Path, number: int) -> Path:
    """The name of a file that was rotated so many times."""
    return path.with_name(f"{path.name}.{number}")


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _is_named(path: Path, held: os.stat_result) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
