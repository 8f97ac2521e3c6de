"""The weights folder: which packages there are, and which version of each is active."""

from dataclasses import dataclass, field
from pathlib import Path

from app.errors import PackageError
from app.packages.schema import is_identifier

ACTIVE_FILE = "ACTIVE"
"""A text file ``weights/NAME/ACTIVE`` holds the version that is served."""


@dataclass
class StoreListing:
    """What lies in a weights folder.

    Attributes:
        active: the folder of the active version, by deploy name, in order of the names.
        broken: why a name has no active version, by that name.
    """

    active: dict[str, Path] = field(default_factory=dict)
    broken: dict[str, PackageError] = field(default_factory=dict)


def active_versions(weights_dir: Path) -> StoreListing:
    """List the active version of every package, without opening the packages.

    A hidden folder (its name starts with a dot) is one that is being written or removed,
    and a plain file is none of ours; both are passed over.

    Args:
        weights_dir: the folder ``weights``.

    Raises:
        PackageError: the folder itself cannot be read. What is wrong with one name is in
            the listing and hides no other.
    """
    listing = StoreListing()
    for folder in _visible_folders(weights_dir):
        try:
            listing.active[folder.name] = active_version(folder)
        except PackageError as exc:
            listing.broken[folder.name] = exc
    return listing


def active_version(name_folder: Path) -> Path:
    """Find the active version of one package.

    Args:
        name_folder: ``weights/NAME``.

    Returns:
        The version that ACTIVE names, or without that file the only one.

    Raises:
        PackageError: the folder's name cannot be a deploy name, it has no version, several
            without ACTIVE, or ACTIVE names one that is not there.
    """
    if not is_identifier(name_folder.name):
        raise PackageError(
            str(name_folder),
            "",
            "expected a deploy name: 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first, "
            "no two dots in a row",
        )
    versions = {folder.name: folder for folder in _visible_folders(name_folder)}
    if (name_folder / ACTIVE_FILE).exists():
        return _named_version(name_folder / ACTIVE_FILE, versions)
    if len(versions) != 1:
        raise PackageError(
            str(name_folder),
            "",
            f"found the versions {', '.join(versions)} and no file {ACTIVE_FILE}; "
            f"activate one by writing its name to {name_folder / ACTIVE_FILE}"
            if versions
            else "found no version; expected a folder with a manifest.json for each version",
        )
    return next(iter(versions.values()))


def _named_version(active_file: Path, versions: dict[str, Path]) -> Path:
    try:
        version = active_file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise PackageError(str(active_file), "", "expected a text file with a version") from exc
    if version not in versions:
        raise PackageError(
            str(active_file),
            "",
            f"found {version[:64]!r}, expected one of the versions there: "
            f"{', '.join(versions) or 'none'}",
        )
    return versions[version]


def _visible_folders(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
        return [entry for entry in entries if entry.is_dir() and entry.name[0] != "."]
    except OSError as exc:
        raise PackageError(str(folder), "", f"cannot be read: {exc.strerror}") from exc
