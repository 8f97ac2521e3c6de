"""What the command line needs to check licences: the sealed packages and the device."""

from pathlib import Path

from app.errors import PackageError
from app.licence.facts import Facts
from app.licence.licence import DeviceClass
from app.packages.manifest import MANIFEST_FILE, Manifest, read_manifest
from app.packages.store import desired_versions
from app.settings import Settings


def device_of(settings: Settings, facts: Facts) -> tuple[DeviceClass, tuple[str, ...]]:
    """Find the device that a server runs on, without importing torch.

    Returns:
        The device class, and the UUIDs of all GPUs that it may use.
    """
    cards = facts.get("gpu", ())
    is_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and bool(cards))
    return ("gpu", cards) if is_gpu else ("cpu", ())


def active_manifests(weights_dir: Path) -> list[Manifest]:
    """Read the manifests of the active packages; broken packages are left out."""
    manifests = []
    for version in desired_versions(weights_dir).values():
        try:
            if version.folder is not None:
                manifests.append(read_manifest(version.folder / MANIFEST_FILE)[0])
        except PackageError:
            continue
    return manifests
