"""Sealed packages for the command line: opened with the licence that lies on this machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.cli.options import options_of, resolve_options
from app.errors import LockedPackage
from app.licence.facts import read_facts
from app.licence.folder import LicenceFolder
from app.licence.standing import device_of
from app.packages.package import Package, load_package
from app.settings import Settings


def licence_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the settings by which a licence is found."""
    return options_of("licence_dir", "state_dir", "device")(command)


def load_unlocked(folder: Path, options: dict[str, str | None]) -> Package:
    """Check a package, and open it with a licence when it is sealed.

    Args:
        folder: the package's.
        options: of licence_options; the settings are read for a sealed package only.

    Raises:
        PackageError: see load_package.
        LockedPackage: it is sealed and no licence here opens it; the text says what to do.
        SettingsError: see read_settings.
    """
    package = load_package(folder)
    return unlock(package, resolve_options(options).settings) if package.sealed else package


def unlock(package: Package, settings: Settings) -> Package:
    """Give a sealed package its content key; an open one is returned as it is.

    Raises:
        LockedPackage: no licence here opens it; the text says what to do.
    """
    manifest = package.manifest
    if manifest.licence is None:
        return package
    facts = read_facts()
    licences = LicenceFolder(settings.licence_dir, settings.state_dir, *device_of(settings, facts))
    decision = licences.best(manifest.name, manifest.licence, facts)
    if not decision.verdict.serves:
        raise LockedPackage(
            str(package.folder),
            "licence",
            f"the package is sealed, and {decision.verdict.detail}; {decision.verdict.advice}",
        )
    return replace(package, content_key=licences.content_key(decision, manifest.name))
