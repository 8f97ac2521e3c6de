"""Changes of the weights folder: a kill at any moment leaves the state before or after.

New and removed files lie in a hidden staging folder inside the weights folder. One rename,
under the lock of the weights folder, makes the change. The next change deletes the staging
folders of killed processes.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from app.errors import PackageError
from app.packages.store import ACTIVE_FILE, visible_folders
from app.system.files import atomic_write, claim_folder, exchange, file_lock, remove_abandoned, sync

LOCK_FILE = ".lock"
STAGING_PREFIX = ".staging-"

MAX_PREVIOUS = 16
"""Maximum number of versions that a rollback can go back."""


@contextmanager
def staged_folder(target: Path, replace: bool = False) -> Iterator[Path]:
    """Give an empty hidden folder, which becomes the target when the block succeeds.

    All files are on the disk before the rename, so a power cut leaves the whole target or
    none. Adding a second version leaves the first one active. The target is
    ``weights/NAME/VERSION``; its parents are created. With ``replace`` an existing target is
    exchanged for the folder in one step.

    Raises:
        PackageError: the target exists and is not to be replaced, or cannot be written.
    """
    if not replace:
        refuse_existing(target)
    weights_dir = target.parent.parent
    with staging_folder(weights_dir) as staging:
        folder = staging / target.parent.name / target.name
        folder.mkdir(parents=True)
        yield folder
        for path in (*folder.rglob("*"), folder, folder.parent):
            sync(path)
        with weights_lock(weights_dir):
            if replace and target.exists():
                exchange(folder, target)
                sync(target.parent)
            else:
                _publish(folder, target, staging)


def weights_lock(weights_dir: Path) -> AbstractContextManager[None]:
    """Take the lock that every change of a weights folder holds; it is not reentrant."""
    # Readable for all: an administrator's command and the service's account share it.
    return file_lock(weights_dir / LOCK_FILE, 0o644)


@contextmanager
def staging_folder(weights_dir: Path) -> Iterator[Path]:
    """Give a hidden folder that is deleted afterwards; not to be called under the lock.

    Raises:
        PackageError: an OSError in the block.
    """
    try:
        weights_dir.mkdir(parents=True, exist_ok=True)
        with weights_lock(weights_dir):
            remove_abandoned(weights_dir.glob(f"{STAGING_PREFIX}*/"))
            # Not tempfile.mkdtemp: its mode would lock out the account of the service.
            folder = weights_dir / f"{STAGING_PREFIX}{secrets.token_hex(8)}"
            folder.mkdir()
            claim = claim_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(claim)
    except OSError as exc:
        raise PackageError(
            weights_dir, f"cannot be changed: {exc.filename or ''} {exc.strerror}"
        ) from exc


def _publish(folder: Path, target: Path, staging: Path) -> None:
    name_folder = target.parent
    if not name_folder.exists():
        # The name and its first version appear together: a name without one would be broken.
        folder.parent.rename(name_folder)
        sync(name_folder.parent)
        return
    # Another process may have built the same version in the meantime.
    refuse_existing(target)
    versions = visible_folders(name_folder)
    if len(versions) == 1 and not (name_folder / ACTIVE_FILE).exists():
        # It was active as the only version; with a second one, no version would be.
        write_active(name_folder, [*versions], staging)
    folder.rename(target)
    sync(name_folder)


def write_active(name_folder: Path, versions: Sequence[str], staging: Path) -> None:
    """Replace ACTIVE, to be called under the lock: the active version, then those before it."""
    lines = "".join(f"{version}\n" for version in versions[: 1 + MAX_PREVIOUS])
    with atomic_write(name_folder / ACTIVE_FILE, draft_folder=staging) as stream:
        stream.write(lines.encode())


def refuse_existing(target: Path) -> None:
    """Refuse to write a version that exists.

    Raises:
        PackageError: it does.
    """
    if target.exists():
        raise PackageError(
            target, "exists already; choose another version, or remove this one first"
        )
