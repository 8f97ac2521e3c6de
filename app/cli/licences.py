"""Licences on this machine, for the command line: judging them, and opening sealed packages."""

from dataclasses import replace
from pathlib import Path

from app.cli.options import options_of, resolve_options
from app.errors import LockedPackage
from app.licence.facts import Facts, read_facts
from app.licence.folder import Decision, LicenceFolder
from app.licence.standing import active_manifests, device_of
from app.packages.manifest import Manifest
from app.packages.package import Package, load_package
from app.settings import Settings

LICENCE_SETTINGS = ("licence_dir", "state_dir", "device")
"""The settings that locate a licence."""

licence_options = options_of("weights_dir", "licence_dir", "state_dir", hidden=LICENCE_SETTINGS)
"""Gives a command the options of the settings that locate a package and its licence."""


def judge_licences(settings: Settings) -> list[tuple[Manifest, Decision]]:
    """Judge the licence of each active package that needs one.

    Raises:
        PackageError: the weights folder cannot be read.
    """
    folder, facts = _open_folder(settings)
    return [
        (manifest, folder.best(manifest.name, manifest.licence, facts))
        for manifest in active_manifests(settings.weights_dir)
        if manifest.licence is not None
    ]


def _open_folder(settings: Settings) -> tuple[LicenceFolder, Facts]:
    facts = read_facts()
    device, gpus = device_of(settings, facts)
    return LicenceFolder(settings.licence_dir, settings.state_dir, device, gpus), facts


def load_unlocked(folder: Path, options: dict[str, str | None]) -> Package:
    """Load a package, and unlock it if it is sealed; only then the settings are read.

    Raises:
        PackageError: see load_package.
        LockedPackage: see unlock.
        SettingsError: see read_settings.
    """
    package = load_package(folder)
    return unlock(package, resolve_options(options).settings) if package.sealed else package


def unlock(package: Package, settings: Settings) -> Package:
    """Give a sealed package its content key; other packages are returned unchanged.

    Raises:
        LockedPackage: no licence on this machine opens it; the text says what to do.
    """
    manifest = package.manifest
    if manifest.licence is None:
        return package
    folder, facts = _open_folder(settings)
    decision = folder.best(manifest.name, manifest.licence, facts)
    if not decision.verdict.serves:
        raise LockedPackage(
            package.folder,
            f"the package is sealed, and {decision.verdict.detail}; {decision.verdict.advice}",
            field="licence",
        )
    return replace(package, content_key=folder.content_key(decision, manifest.name))
