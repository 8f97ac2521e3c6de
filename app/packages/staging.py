"""Changing the weights folder: a kill at any moment leaves it as before or as after.

Whatever is made or thrown away lies in a hidden staging folder of the weights folder, and one
rename, under the lock of the weights folder, makes the change. What a killed process has
left in staging is read by nobody, and the next change deletes it.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.errors import PackageError
from app.packages.store import ACTIVE_FILE, version_folders

LOCK_FILE = ".lock"
STAGING_PREFIX = ".staging-"

MAX_PREVIOUS = 16
"""How many versions back a rollback can go."""


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give an empty hidden folder; make it the target when all went well.

    Everything is on the disk before the rename, so a power cut leaves the whole target or
    none. A second version leaves the first one active.

    Args:
        target: the folder to make, ``weights/NAME/VERSION``; its parents are made when they
            are not there.

    Raises:
        PackageError: the target exists, or cannot be written.
    """
    _refuse_existing(target)
    weights_dir = target.parent.parent
    with staging_folder(weights_dir) as staging:
        folder = staging / target.parent.name / target.name
        folder.mkdir(parents=True)
        yield folder
        for path in (*folder.rglob("*"), folder, folder.parent):
            sync(path)
        with locked(weights_dir):
            _publish(folder, target, staging)


@contextmanager
def locked(weights_dir: Path) -> Iterator[None]:
    """Hold the lock of a weights folder, which every change of it takes; it is not reentrant."""
    weights_dir.mkdir(parents=True, exist_ok=True)
    # Read-only is enough for flock, also for an account that did not make the file.
    descriptor = os.open(weights_dir / LOCK_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging_folder(weights_dir: Path) -> Iterator[Path]:
    """Give a hidden folder that is deleted at the end; not to be entered under the lock.

    Args:
        weights_dir: the folder ``weights``; it is made when it is not there.

    Raises:
        PackageError: the operating system refused something in the block.
    """
    try:
        with locked(weights_dir):
            _sweep(weights_dir)
            # Not tempfile.mkdtemp: it hides the folder from the account that the service runs as.
            folder = weights_dir / f"{STAGING_PREFIX}{secrets.token_hex(8)}"
            folder.mkdir()
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # tells a sweep that its owner lives
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
    except OSError as exc:
        raise PackageError(
            str(weights_dir), "", f"cannot be changed: {exc.filename or ''} {exc.strerror}"
        ) from exc


def _sweep(weights_dir: Path) -> None:
    """Delete the staging folders of processes that were killed."""
    for folder in weights_dir.glob(f"{STAGING_PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its owner has just deleted it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _publish(folder: Path, target: Path, staging: Path) -> None:
    name_folder = target.parent
    if not name_folder.exists():
        # The name and its first version appear together: a name without one would be broken.
        folder.parent.rename(name_folder)
        sync(name_folder.parent)
        return
    # Another process may have built the same version in the meantime.
    _refuse_existing(target)
    versions = version_folders(name_folder)
    if len(versions) == 1 and not (name_folder / ACTIVE_FILE).exists():
        # Active so far because it is the only one; with a second one none would be.
        write_active(name_folder, [*versions], staging)
    folder.rename(target)
    sync(name_folder)


def write_active(name_folder: Path, versions: Sequence[str], staging: Path) -> None:
    """Replace ACTIVE in one rename; to be called under the lock.

    Args:
        name_folder: ``weights/NAME``.
        versions: the active version, then those before it, the latest first.
        staging: a folder of staging_folder.
    """
    path = staging / ACTIVE_FILE
    path.write_text("".join(f"{version}\n" for version in versions[: 1 + MAX_PREVIOUS]))
    sync(path)
    path.rename(name_folder / ACTIVE_FILE)
    sync(name_folder)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise PackageError(
            str(target), "", "exists already; choose another version, or remove this one first"
        )


def sync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
