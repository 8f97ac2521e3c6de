"""Activating, rolling back and removing versions; app.packages.staging makes them atomic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import PackageError
from app.packages.package import load_package
from app.packages.staging import staging_folder, weights_lock, write_active
from app.packages.store import (
    desired_version,
    existing_name,
    existing_version,
    previous_versions,
)
from app.system.files import sync


@dataclass(frozen=True)
class Activation:
    """A version that was made the active one.

    Attributes:
        folder: the version's folder.
        generation: of desired_version right after it; a worker that reports this generation
            has seen the activation.
        before: the versions that ACTIVE named before, the active one first.
    """

    folder: Path
    generation: str
    before: tuple[str, ...]


def activate(weights_dir: Path, name: str, version: str) -> Activation:
    """Check the files of a version and make it the active one.

    Raises:
        PackageError: the version does not exist or is broken, or ACTIVE cannot be written.
    """
    with _changing(weights_dir) as staging:
        folder = existing_version(weights_dir, name, version)
        earlier = [other for other in _recorded_versions(folder.parent) if other != version]
        return _activate(folder, earlier, staging)


def roll_back(weights_dir: Path, name: str) -> Activation:
    """Activate the version that was active before; the next call goes one further back.

    Raises:
        PackageError: there is no such version, or see activate.
    """
    with _changing(weights_dir) as staging:
        name_folder = existing_name(weights_dir, name)
        previous = previous_versions(name_folder)
        if not previous:
            raise PackageError(
                name_folder,
                "no earlier version is recorded to go back to; name one with "
                f"classifyd package activate {name} VERSION",
            )
        return _activate(name_folder / previous[0], previous[1:], staging)


def undo(weights_dir: Path, activation: Activation) -> bool:
    """Restore the ACTIVE from before an activation.

    Returns:
        False when nothing was restored: ACTIVE has changed since, or named the same version
        before, or no version.
    """
    name_folder = activation.folder.parent
    with _changing(weights_dir) as staging:
        is_latest = desired_version(name_folder).generation == activation.generation
        if not is_latest or activation.before[:1] in {(), (activation.folder.name,)}:
            return False
        write_active(name_folder, activation.before, staging)
        return True


def remove_version(weights_dir: Path, name: str, version: str) -> None:
    """Delete a version that is not active.

    Raises:
        PackageError: it does not exist, or it is active.
    """
    with _changing(weights_dir) as staging:
        folder = existing_version(weights_dir, name, version)
        if _recorded_versions(folder.parent)[:1] == (version,):
            raise PackageError(
                folder,
                "is the active version; activate another one first, or remove the whole "
                f"deploy name: classifyd package remove {name} --all",
            )
        folder.rename(staging / version)
        sync(folder.parent)


def remove_name(weights_dir: Path, name: str) -> None:
    """Delete a deploy name with all its versions.

    Raises:
        PackageError: it does not exist.
    """
    with _changing(weights_dir) as staging:
        existing_name(weights_dir, name).rename(staging / name)
        sync(weights_dir)


@contextmanager
def _changing(weights_dir: Path) -> Iterator[Path]:
    with staging_folder(weights_dir) as staging, weights_lock(weights_dir):
        yield staging


def _activate(folder: Path, earlier: list[str], staging: Path) -> Activation:
    load_package(folder)
    before = _recorded_versions(folder.parent)
    write_active(folder.parent, [folder.name, *earlier], staging)
    return Activation(folder, desired_version(folder.parent).generation, before)


def _recorded_versions(name_folder: Path) -> tuple[str, ...]:
    """The active version and those before it; empty when no version is active."""
    version = desired_version(name_folder)
    return tuple(path.name for path in (version.folder, *version.previous) if path)
