"""The weights folder: which packages it holds, and which version of each is active."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import PackageError
from app.packages.manifest import MANIFEST_FILE
from app.packages.schema import is_identifier
from app.system.files import is_foreign, read_regular

ACTIVE_FILE = "ACTIVE"
"""A text file ``weights/NAME/ACTIVE``: the active version in its first line, then those
active before it, the latest first, one a line. As it is one file, an activation or a
rollback is one rename."""


@dataclass(frozen=True)
class DesiredVersion:
    """The version to serve under one deploy name.

    Attributes:
        generation: a text that changes with ACTIVE and with the active version's manifest.
        folder: the active version, None when there is none.
        previous: existing versions that were active before, the latest first.
        problem: why there is no active version.
    """

    generation: str
    folder: Path | None = None
    previous: tuple[Path, ...] = ()
    problem: PackageError | None = None


def desired_versions(weights_dir: Path) -> dict[str, DesiredVersion]:
    """Find the version to serve for each deploy name, in order, without opening the packages.

    Hidden folders are in the middle of a change; they, plain files and foreign folders are
    ignored.

    Raises:
        PackageError: the folder itself cannot be read. A problem of one name is in its
            DesiredVersion and hides no other name.
    """
    return {name: desired_version(path) for name, path in visible_folders(weights_dir).items()}


def desired_version(name_folder: Path) -> DesiredVersion:
    """Find the version to serve for one deploy name; see desired_versions."""
    # Before the rest: a change in between then gives another generation in the next call.
    stamp = _stamp(name_folder / ACTIVE_FILE)
    try:
        folder = active_version(name_folder)
        previous = tuple(name_folder / version for version in previous_versions(name_folder))
    except PackageError as exc:
        return DesiredVersion(f"{stamp} {exc}", problem=exc)
    return DesiredVersion(f"{stamp} {source_of(folder)}", folder, previous)


def source_of(folder: Path) -> str:
    """Identify a version and its manifest file by a text that changes when it is replaced."""
    return f"{folder.name} {_stamp(folder / MANIFEST_FILE)}"


def latest_version(name_folder: Path) -> int:
    """Return the highest version that is a number; 0 if there is none.

    Raises:
        PackageError: the folder cannot be read.
    """
    names = visible_folders(name_folder) if name_folder.is_dir() else {}
    return max((int(name) for name in names if name.isdecimal()), default=0)


def existing_name(weights_dir: Path, name: str) -> Path:
    """Return the folder of a deploy name.

    Raises:
        PackageError: there is none.
    """
    return _pick(weights_dir, name, "package")


def existing_version(weights_dir: Path, name: str, version: str) -> Path:
    """Return the folder of a version.

    Raises:
        PackageError: there is none.
    """
    return _pick(existing_name(weights_dir, name), version, "version")


def _pick(parent: Path, name: str, kind: str) -> Path:
    folders = visible_folders(parent)
    if name not in folders:
        known = ", ".join(folders) or "none"
        raise PackageError(parent, f"found no {kind} {name!r}; there are: {known}")
    return folders[name]


def visible_folders(parent: Path) -> dict[str, Path]:
    """List the folders that are neither hidden nor foreign, by name: packages, or versions.

    Raises:
        PackageError: the parent cannot be read.
    """
    try:
        entries = sorted(parent.iterdir())
        own = (entry for entry in entries if not is_foreign(entry.name))
        return {e.name: e for e in own if not e.name.startswith(".") and e.is_dir()}
    except OSError as exc:
        raise PackageError(parent, f"cannot be read: {exc.strerror}") from exc


def foreign_entries(weights_dir: Path) -> list[str]:
    """List the foreign entries beside the packages and beside their versions.

    Raises:
        PackageError: the weights folder cannot be read.
    """
    parents = (weights_dir, *visible_folders(weights_dir).values())
    # glob skips a folder that cannot be read; its DesiredVersion reports that.
    entries = (entry for parent in parents for entry in sorted(parent.glob("*")))
    return [str(e.relative_to(weights_dir)) for e in entries if is_foreign(e.name)]


def previous_versions(name_folder: Path) -> list[str]:
    """List the versions that were active before and still exist, the latest first.

    Raises:
        PackageError: ACTIVE or the folder cannot be read.
    """
    if not (name_folder / ACTIVE_FILE).exists():
        return []
    versions = visible_folders(name_folder)
    _, *earlier = _read_active(name_folder / ACTIVE_FILE)
    return [version for version in earlier if version in versions]


def active_version(name_folder: Path) -> Path:
    """Find the version that ACTIVE names; without that file, the only version.

    Raises:
        PackageError: the folder's name is not a deploy name, it has no version, it has
            several without ACTIVE, or ACTIVE names one that does not exist.
    """
    if not is_identifier(name_folder.name):
        raise PackageError(
            name_folder,
            "expected a deploy name: 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first, "
            "no two dots in a row",
        )
    versions = visible_folders(name_folder)
    if (name_folder / ACTIVE_FILE).exists():
        return _named_version(name_folder / ACTIVE_FILE, versions)
    if len(versions) != 1:
        raise PackageError(
            name_folder,
            f"found the versions {', '.join(versions)} and no file {ACTIVE_FILE}; "
            f"activate one: classifyd package activate {name_folder.name} VERSION"
            if versions
            else "found no version; expected a folder with a manifest.json for each version",
        )
    return next(iter(versions.values()))


def _named_version(active_file: Path, versions: Mapping[str, Path]) -> Path:
    version = _read_active(active_file)[0]
    if version not in versions:
        raise PackageError(
            active_file,
            f"found {version[:64]!r}, expected one of the versions there: "
            f"{', '.join(versions) or 'none'}",
        )
    return versions[version]


def _read_active(active_file: Path) -> list[str]:
    """Read the lines of ACTIVE: at least one, which may be empty."""
    try:
        text = read_regular(active_file).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise PackageError(active_file, "expected a text file with a version") from exc
    return [line.strip() for line in text.strip().split("\n")]


def _stamp(path: Path) -> str:
    """Tell a replaced file from the one before, without opening it."""
    try:
        stat = path.stat()
    except OSError:
        return "-"
    return f"{stat.st_ino}.{stat.st_mtime_ns}"
