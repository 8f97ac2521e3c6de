"""A log file that several processes write and that may be rotated at any time.

Each line is one write in append mode (O_APPEND), so lines of several workers never mix and a
file truncated by ``copytruncate`` is filled from its beginning. The path is checked before
each line: after logrotate or another worker has renamed the file, the line goes to a new one.
"""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from app.system.files import file_lock, open_regular

_MIB = 1024 * 1024


class RotatedFileHandler(logging.Handler):
    """Writes lines to a file that other processes may rename, remove or truncate.

    Args:
        path: the file; its folder must exist.
        max_mib: size at which it is renamed to ``NAME.1``, 0 for never.
        keep: number of renamed files to keep.
        is_copy: the lines are on standard error too.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(
        self, path: Path, max_mib: int = 0, keep: int = 5, *, is_copy: bool = False
    ) -> None:
        super().__init__()
        self.is_copy = is_copy
        self._path = path
        self._max_bytes = max_mib * _MIB
        self._keep = keep
        self._descriptor = _open(path)
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; on failure it goes to standard error, where a copy's line is anyway."""
        line = self.format(record) + "\n"
        self._has_failed = not self._write(line.encode("utf-8", "backslashreplace"))
        if self._has_failed and not self.is_copy:
            # Which may be on the same full disk.
            with suppress(OSError):
                sys.stderr.write(line)

    def _write(self, line: bytes) -> bool:
        """Write a line and say whether all of it was written."""
        try:
            self._reopen_if_renamed()
            if self._has_failed and self._ends_within_line():
                line = b"\n" + line
            return os.write(self._descriptor, line) == len(line)
        except OSError:
            return False

    def _ends_within_line(self) -> bool:
        """Whether a full disk has cut off the last line, of this process or another."""
        with suppress(OSError), open_regular(self._path) as file:
            size = os.fstat(file.fileno()).st_size
            return size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        super().close()

    def _reopen_if_renamed(self) -> None:
        opened = os.fstat(self._descriptor)
        if _is_at(self._path, opened) and self._max_bytes and opened.st_size >= self._max_bytes:
            self._rotate(opened)
        if not _is_at(self._path, opened):
            descriptor = _open(self._path)
            os.close(self._descriptor)
            self._descriptor = descriptor

    def _rotate(self, opened: os.stat_result) -> None:
        """Rename the file and the older ones, unless another process just did."""
        lock = file_lock(self._path.with_name(f"{self._path.name}.lock"), timeout_s=0)
        # Without waiting: while another process has the lock, the line goes to the larger file.
        with suppress(TimeoutError), lock:
            if not _is_at(self._path, opened):
                return
            for number in range(self._keep - 1, 0, -1):
                if (older := numbered(self._path, number)).exists():
                    older.replace(numbered(self._path, number + 1))
            self._path.replace(numbered(self._path, 1))


def numbered(path: Path, number: int) -> Path:
    """Name the log file after a number of rotations, such as ``classifyd.log.1``."""
    return path.with_name(f"{path.name}.{number}")


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _is_at(path: Path, opened: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), opened)
    except FileNotFoundError:
        return False
