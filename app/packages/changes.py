"""Activating, rolling back and removing versions; see app.packages.staging for the how."""

from dataclasses import dataclass
from pathlib import Path

from app.errors import PackageError
from app.packages.package import load_package
from app.packages.staging import locked, staging_folder, sync, write_active
from app.packages.store import (
    active_version,
    existing_name,
    existing_version,
    previous_versions,
    wanted_version,
)


@dataclass(frozen=True)
class Activation:
    """A version that was made the active one.

    Attributes:
        folder: the version's folder.
        generation: what wanted_version gave right after; a worker that reports it has seen
            this activation.
        before: the versions that ACTIVE named before, the active one first.
    """

    folder: Path
    generation: str
    before: tuple[str, ...]


def activate(weights_dir: Path, name: str, version: str) -> Activation:
    """Make a version the active one, after a check of its files.

    Raises:
        PackageError: the version is not there or broken, or ACTIVE cannot be written.
    """
    with staging_folder(weights_dir) as staging, locked(weights_dir):
        folder = existing_version(weights_dir, name, version)
        load_package(folder)
        before = _versions_in_force(folder.parent)
        earlier = [other for other in before if other != version]
        write_active(folder.parent, [version, *earlier], staging)
        return Activation(folder, wanted_version(folder.parent).generation, before)


def roll_back(weights_dir: Path, name: str) -> Activation:
    """Make the version active that was active before; the next call goes one further back.

    Raises:
        PackageError: there is no such version, or see activate.
    """
    with staging_folder(weights_dir) as staging, locked(weights_dir):
        name_folder = existing_name(weights_dir, name)
        earlier = previous_versions(name_folder)
        if not earlier:
            raise PackageError(
                str(name_folder),
                "",
                "no earlier version is recorded to go back to; name one with "
                f"classifyd package activate {name} VERSION",
            )
        load_package(name_folder / earlier[0])
        before = _versions_in_force(name_folder)
        write_active(name_folder, earlier, staging)
        generation = wanted_version(name_folder).generation
        return Activation(name_folder / earlier[0], generation, before)


def undo(weights_dir: Path, activation: Activation) -> bool:
    """Take an activation back, unless ACTIVE was changed after it or was the same before.

    Returns:
        Whether ACTIVE is as it was before.
    """
    name_folder = activation.folder.parent
    with staging_folder(weights_dir) as staging, locked(weights_dir):
        is_latest = wanted_version(name_folder).generation == activation.generation
        if not is_latest or activation.before[:1] in {(), (activation.folder.name,)}:
            return False
        write_active(name_folder, activation.before, staging)
        return True


def remove_version(weights_dir: Path, name: str, version: str) -> None:
    """Delete a version that is not active.

    Raises:
        PackageError: it is not there, or it is active.
    """
    with staging_folder(weights_dir) as staging, locked(weights_dir):
        folder = existing_version(weights_dir, name, version)
        if _versions_in_force(folder.parent)[:1] == (version,):
            raise PackageError(
                str(folder),
                "",
                "is the active version; activate another one first, or remove the whole "
                f"deploy name: classifyd package remove {name} --all",
            )
        folder.rename(staging / version)
        sync(folder.parent)


def remove_name(weights_dir: Path, name: str) -> None:
    """Delete a deploy name with all its versions.

    Raises:
        PackageError: it is not there.
    """
    with staging_folder(weights_dir) as staging, locked(weights_dir):
        existing_name(weights_dir, name).rename(staging / name)
        sync(weights_dir)


def _versions_in_force(name_folder: Path) -> tuple[str, ...]:
    """The active version and those before it; empty when there is no active one."""
    try:
        return (active_version(name_folder).name, *previous_versions(name_folder))
    except PackageError:
        return ()
