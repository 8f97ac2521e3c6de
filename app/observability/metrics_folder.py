"""The folder in which the workers of one server keep their metrics.

Each worker writes memory-mapped files, and the worker that answers a scrape sums all of them.
They are named by the worker's slot instead of its process id: a replacement continues the
counters of a killed worker, and there are never more files than workers.
"""

import os
import tempfile
from pathlib import Path

from app.system.files import atomic_write, claim_folder, file_lock, remove_abandoned

FOLDER_KEY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client finds the folder."""

LOCK_TIMEOUT_S = 10

RESERVED_BYTES = 2 * 1024 * 1024
"""Allocated for each file in advance: writing to a mapped page for which a full disk has no
block ends the process (SIGBUS). It holds about 8000 series of one kind."""


def open_metrics_folder(state_dir: Path) -> Path:
    """Create the folder of a starting server, and remove those of servers that have ended.

    The calling process and its forks hold the claim on it until the last of them ends:
    servers in several containers may share a state folder, where process ids tell nothing.

    Raises:
        OSError: the folder cannot be written.
    """
    root = state_dir / "metrics"
    root.mkdir(exist_ok=True)
    with file_lock(root / "lock", timeout_s=LOCK_TIMEOUT_S):
        remove_abandoned(root.glob("*/"))
        folder = Path(tempfile.mkdtemp(dir=root))
        claim_folder(folder)  # never closed: it lasts as long as the server
    return folder


def reserve_files(folder: Path, slot: int, kinds: tuple[str, ...]) -> None:
    """Allocate the disk space of a worker's files.

    Raises:
        OSError: the disk is full.
    """
    for kind in kinds:
        path = folder / f"{kind}_{slot}.db"
        if path.exists():
            continue  # of the previous worker in this slot
        # Atomic, as a scrape cannot read a file that is still empty; gone with the server.
        with atomic_write(path, 0o640, durable=False) as stream:
            os.posix_fallocate(stream.fileno(), 0, RESERVED_BYTES)
