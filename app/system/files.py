"""Files that several processes share: atomic writes and advisory locks."""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

LOCK_POLL_S = 0.02
"""Interval at which a lock is tried; flock(2) has no timeout."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
"""fcntl.h and linux/fs.h."""

_FOREIGN_NAMES = frozenset(
    {
        "lost+found",  # ext4
        "@eaDir",  # Synology
        "#recycle",
        "@Recycle",  # QNAP
        "__MACOSX",  # a zip made by macOS
        "$RECYCLE.BIN",  # Windows
        "System Volume Information",
        ".ipynb_checkpoints",  # Jupyter
    }
)


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced or written; None if there is none to read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


@contextmanager
def atomic_write(
    path: Path,
    mode: int = 0o644,
    *,
    durable: bool = True,
    owner_of: Path | None = None,
    draft_folder: Path | None = None,
) -> Iterator[BinaryIO]:
    """Open a stream whose content replaces a file when the block succeeds.

    Readers see the old content or the new, never a part of it. After an exception the file
    is unchanged.

    Args:
        path: the file; its folder must exist.
        mode: permissions of the new file, limited by the umask.
        durable: wait until the content and the name are on the disk, so that a power cut
            leaves the old file or the new one. False only for what a reboot makes useless.
        owner_of: when root writes, the file gets the owner of this path.
        draft_folder: where the draft is written, on the same file system; default is the
            file's folder. A killed process leaves its draft behind.

    Raises:
        OSError: the file cannot be written.
    """
    draft = (draft_folder or path.parent) / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            if owner_of is not None and os.geteuid() == 0:
                owner = owner_of.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            if durable:
                os.fsync(descriptor)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def exchange(first: Path, second: Path) -> None:
    """Exchange two folders of one file system in one step, if it can, else in three.

    Raises:
        OSError: they cannot be renamed.
    """
    # renameat2(2); Python has no function for it.
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    paths = os.fsencode(first), os.fsencode(second)
    if renameat2 and renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    spare = first.with_name(f".{first.name}.{secrets.token_hex(8)}")
    second.rename(spare)
    first.rename(second)
    spare.rename(first)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    In a folder that others can write to, opening a FIFO would wait until somebody writes to it.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
    """
    stream = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return stream


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def read_regular(path: Path) -> bytes:
    """Read a regular file; see open_regular."""
    with open_regular(path) as stream:
        return stream.read()


@contextmanager
def file_lock(path: Path, mode: int = 0o640, timeout_s: float | None = None) -> Iterator[None]:
    """Hold an exclusive lock; see acquire_lock. It is not reentrant.

    Args:
        path: see acquire_lock.
        mode: see acquire_lock.
        timeout_s: how long to wait for another process that holds the lock; None is forever.

    Raises:
        TimeoutError: another process held the lock for too long.
        OSError: the file cannot be opened.
    """
    descriptor = _acquire_within(path, mode, timeout_s)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire_within(path: Path, mode: int, timeout_s: float | None) -> int:
    if timeout_s is None:
        return acquire_lock(path, mode)
    end = time.monotonic() + timeout_s
    while True:
        try:
            return acquire_lock(path, mode, wait=False)
        except BlockingIOError as exc:
            if time.monotonic() >= end:
                problem = "another process holds its lock"
                raise TimeoutError(errno.EWOULDBLOCK, problem, str(path)) from exc
        time.sleep(LOCK_POLL_S)


def acquire_lock(path: Path, mode: int = 0o640, *, wait: bool = True) -> int:
    """Take the exclusive flock(2) of a file, which is created if it does not exist.

    Args:
        path: the file; nothing is read from it or written to it.
        mode: permissions of a new file. Any account that can read it can hold the lock.
        wait: wait while another process holds the lock.

    Returns:
        A descriptor. The lock is released when every process that has it, forked children
        included, has closed it or ended.

    Raises:
        BlockingIOError: another process holds the lock, and wait is False.
        OSError: the file cannot be opened.
    """
    # O_NONBLOCK: opening a FIFO must not wait for its other end.
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # NFS grants an exclusive lock only on a descriptor that is open for writing.
        descriptor = os.open(path, flags | os.O_RDWR, mode)
    except PermissionError:
        descriptor = os.open(path, flags | os.O_RDONLY, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_foreign(name: str) -> bool:
    """Whether an entry of a folder was created by an operating system or a tool, not by a user.

    Names that start with ``._`` are AppleDouble files, which macOS writes beside others.
    """
    return name in _FOREIGN_NAMES or name.startswith("._")


def claim_folder(folder: Path) -> int:
    """Mark a temporary folder as in use until the descriptor returned is closed everywhere."""
    return acquire_lock(folder / ".lock", 0o644)


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Delete the folders that no running process has claimed."""
    for folder in folders:
        try:
            descriptor = acquire_lock(folder / ".lock", 0o644, wait=False)
        except OSError:
            continue  # in use, deleted meanwhile, or another account's
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
