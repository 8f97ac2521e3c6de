"""What the command line asks: which packages need a licence here, and on which device."""

from pathlib import Path

from app.errors import PackageError
from app.licence.facts import Facts
from app.licence.licence import DeviceClass
from app.packages.manifest import MANIFEST_FILE, Manifest, read_manifest
from app.packages.store import active_versions
from app.settings import Settings


def device_of(settings: Settings, facts: Facts) -> tuple[DeviceClass, tuple[str, ...]]:
    """Tell what a server will run on, without loading torch.

    Returns:
        The device class, and the UUIDs of all cards that may be meant.
    """
    cards = facts.get("gpu", ())
    is_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and bool(cards))
    return ("gpu", cards) if is_gpu else ("cpu", ())


def active_manifests(weights_dir: Path) -> list[Manifest]:
    """Read the manifests of the active packages; a broken package has none to read."""
    manifests = []
    for folder in active_versions(weights_dir).active.values():
        try:
            manifests.append(read_manifest(folder / MANIFEST_FILE)[0])
        except PackageError:
            continue
    return manifests
