"""The folder in which the workers of one server keep their numbers.

Each worker writes memory-mapped files that whichever worker is scraped adds up. They are
named by the worker's slot and not by its process id: a replacement goes on counting where
the worker before it was killed, and there are never more files than workers.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

FOLDER_KEY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client finds the folder."""

RESERVED_BYTES = 2 * 1024 * 1024
"""Set aside for each file beforehand: writing a mapped page that a full disk has no block
for ends the process (SIGBUS). It holds about 8000 series of one kind."""

_LOCK_FILE = "lock"


def open_metrics_folder(state_dir: Path) -> Path:
    """Make the folder of a server that starts, and remove those of servers that have ended.

    The lock on it is held by the calling process and those that it forks, until the last of
    them ends: several servers may share a state folder, in containers too, where process
    ids tell nothing.

    Raises:
        OSError: the folder cannot be written.
    """
    root = state_dir / "metrics"
    root.mkdir(exist_ok=True)
    guard = _lock(root)
    try:
        for old in root.iterdir():
            if old.is_dir() and (lock := _lock(old)) is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(lock)
        folder = Path(tempfile.mkdtemp(dir=root))
        _lock(folder)  # left open on purpose: it is the lock
        return folder
    finally:
        if guard is not None:
            os.close(guard)


def _lock(folder: Path) -> int | None:
    """Lock a folder; None when another server has it."""
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def reserve_files(folder: Path, slot: int, kinds: tuple[str, ...]) -> None:
    """Set aside the disk space of a worker's files.

    Raises:
        OSError: the disk is full.
    """
    for kind in kinds:
        path = folder / f"{kind}_{slot}.db"
        if path.exists():
            continue  # of the worker that had this slot before
        # Under another name at first: a scrape cannot read a file that is still empty.
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(descriptor, 0, RESERVED_BYTES)
        finally:
            os.close(descriptor)
        draft.replace(path)
