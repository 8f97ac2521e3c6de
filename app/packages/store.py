"""The weights folder: which packages there are, and which version of each is active."""

from dataclasses import dataclass, field
from pathlib import Path

from app.errors import PackageError
from app.packages.manifest import MANIFEST_FILE
from app.packages.schema import is_identifier

ACTIVE_FILE = "ACTIVE"
"""A text file ``weights/NAME/ACTIVE``: the version that is served in its first line, then the
versions that were served before it, the latest first, one a line. As it is one file, an
activation and a rollback are one rename each."""


@dataclass(frozen=True)
class DesiredVersion:
    """What the store wants served under one deploy name.

    Attributes:
        generation: a text that is another one after every change of ACTIVE or of the active
            version's manifest.
        folder: the active version, None when there is none.
        previous: the versions that were active before and are still there, the latest first.
        problem: why there is no active version.
    """

    generation: str
    folder: Path | None = None
    previous: tuple[Path, ...] = ()
    problem: PackageError | None = None


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


def desired_versions(weights_dir: Path) -> dict[str, DesiredVersion]:
    """Say for every deploy name what is to be served, without opening the packages.

    Raises:
        PackageError: the folder itself cannot be read.
    """
    return {folder.name: wanted_version(folder) for folder in _visible_folders(weights_dir)}


def wanted_version(name_folder: Path) -> DesiredVersion:
    """Say for one deploy name what is to be served; see wanted_versions."""
    # Read first: what is changed after it has another generation and is seen the next time.
    mark = _mark(name_folder / ACTIVE_FILE)
    try:
        folder = active_version(name_folder)
        previous = tuple(name_folder / version for version in previous_versions(name_folder))
    except PackageError as exc:
        return DesiredVersion(f"{mark} {exc}", problem=exc)
    return DesiredVersion(f"{mark} {source_of(folder)}", folder, previous)


def source_of(folder: Path) -> str:
    """A text that is another one once a version's manifest was replaced."""
    return f"{folder.name} {_mark(folder / MANIFEST_FILE)}"


def existing_name(weights_dir: Path, name: str) -> Path:
    """Return the folder of a deploy name.

    Raises:
        PackageError: there is none.
    """
    names = version_folders(weights_dir)
    if name not in names:
        known = ", ".join(names) or "none"
        raise PackageError(str(weights_dir), "", f"found no package {name!r}; there are: {known}")
    return names[name]


def existing_version(weights_dir: Path, name: str, version: str) -> Path:
    """Return the folder of a version.

    Raises:
        PackageError: there is none.
    """
    name_folder = existing_name(weights_dir, name)
    versions = version_folders(name_folder)
    if version not in versions:
        known = ", ".join(versions) or "none"
        raise PackageError(
            str(name_folder), "", f"found no version {version!r}; there are: {known}"
        )
    return versions[version]


def version_folders(name_folder: Path) -> dict[str, Path]:
    """The folder of each version of a package, by version.

    Raises:
        PackageError: the folder cannot be read.
    """
    return {folder.name: folder for folder in _visible_folders(name_folder)}


def previous_versions(name_folder: Path) -> list[str]:
    """The versions that ACTIVE names as active before and that are still there, latest first.

    Raises:
        PackageError: ACTIVE or the folder cannot be read.
    """
    if not (name_folder / ACTIVE_FILE).exists():
        return []
    versions = version_folders(name_folder)
    _, *earlier = _read_active(name_folder / ACTIVE_FILE)
    return [version for version in earlier if version in versions]


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
    versions = version_folders(name_folder)
    if (name_folder / ACTIVE_FILE).exists():
        return _named_version(name_folder / ACTIVE_FILE, versions)
    if len(versions) != 1:
        raise PackageError(
            str(name_folder),
            "",
            f"found the versions {', '.join(versions)} and no file {ACTIVE_FILE}; "
            f"activate one: classifyd package activate {name_folder.name} VERSION"
            if versions
            else "found no version; expected a folder with a manifest.json for each version",
        )
    return next(iter(versions.values()))


def _read_active(active_file: Path) -> list[str]:
    """The lines of ACTIVE; at least one, which is empty when the file is."""
    try:
        text = active_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise PackageError(str(active_file), "", "expected a text file with a version") from exc
    return [line.strip() for line in text.strip().split("\n")]


def _mark(path: Path) -> str:
    """What tells a replaced file from the one before, without opening it."""
    try:
        stat = path.stat()
    except OSError:
        return "-"
    return f"{stat.st_ino}.{stat.st_mtime_ns}"


def _named_version(active_file: Path, versions: dict[str, Path]) -> Path:
    version = _read_active(active_file)[0]
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
