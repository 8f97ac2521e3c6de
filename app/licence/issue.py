"""The publisher's side: issues licences for fingerprints and seals packages."""

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.errors import LicenceError, PackageError
from app.licence.fingerprint import MACHINE_FACTS, SHARED_FACTS, Fingerprint
from app.licence.keys import content_key, wrap_key
from app.licence.licence import Licence, Tolerance
from app.licence.verdict import DAY_S
from app.packages.manifest import MANIFEST_FILE, dump_manifest, parse_manifest
from app.packages.package import Package, load_package, read_package
from app.packages.sealing import MAX_MODEL_BYTES, SIGNATURE_FILE, encode_base64, seal_model
from app.packages.signing import SIGNATURE_FILE as ARCHIVE_SIGNATURE
from app.packages.staging import staged_folder

GRACE_DAYS = 14
SERIAL_BYTES = 8
SEALED_SUFFIX = ".sealed"


def issue_licence(
    publisher: Ed25519PrivateKey,
    fingerprint: Fingerprint,
    licensee: str,
    deploy_names: Sequence[str],
    *,
    card: str | None = None,
    not_before: int | None = None,
    days: int | None = None,
    grace_days: int = GRACE_DAYS,
) -> Licence:
    """Grant deploy names to a machine; sign_licence makes the file.

    Args:
        publisher: the key that the packages are sealed with.
        fingerprint: of the machine.
        licensee: name of the customer.
        deploy_names: at least one.
        card: the hash of a GPU's UUID for the device class gpu; None for cpu.
        not_before: Unix seconds; None is the start of today in UTC, so that the licence
            works with a slow clock at the customer's.
        days: validity from now, or from not_before if that is later; None for permanent.
        grace_days: see Tolerance.

    Raises:
        LicenceError: the fingerprint does not identify one machine, or has no such GPU.
    """
    if not set(fingerprint.facts) - SHARED_FACTS:
        raise LicenceError(
            "the fingerprint holds nothing that only this machine has; have the customer run "
            "classifyd licence fingerprint with sudo, and outside a container"
        )
    if card is not None and card not in fingerprint.cards:
        raise LicenceError("the fingerprint has no such GPU")
    now = int(time.time())
    start = now - now % DAY_S if not_before is None else not_before
    serial = secrets.token_hex(SERIAL_BYTES)
    return Licence(
        serial=serial,
        licensee=licensee,
        deploy_names=tuple(deploy_names),
        device="cpu" if card is None else "gpu",
        card=card or "",
        issued=now,
        not_before=start,
        expires=None if days is None else max(now, start) + days * DAY_S,
        salt=fingerprint.salt,
        facts=fingerprint.facts,
        machine_key=fingerprint.machine_key,
        tolerance=default_tolerance(fingerprint, grace_days),
        wrapped_keys={
            name: wrap_key(content_key(publisher, name), fingerprint.machine_key, serial, name)
            for name in deploy_names
        },
        publisher_key=publisher.public_key().public_bytes_raw(),
    )


def default_tolerance(fingerprint: Fingerprint, grace_days: int) -> Tolerance:
    """Let one fact change for good, and a second one for the grace days.

    At least two facts must always match: of any two, one is unique to the machine.
    """
    count = len([kind for kind in MACHINE_FACTS if kind in fingerprint.facts])
    required = min(count, max(2, count - 1))
    return Tolerance(required, min(required, max(2, count - 2)), grace_days)


def seal_package(
    source: Path, weights_dir: Path, publisher: Ed25519PrivateKey, contact: str
) -> Package:
    """Write a copy of a package that runs only with a licence.

    Args:
        source: the open package's folder, which is not changed.
        weights_dir: where to write it, as ``NAME/VERSION``.
        publisher: the key whose licence it will need.
        contact: of the publisher.

    Raises:
        PackageError: the package is wrong, sealed already or too large, or the target
            exists.
    """
    package = read_package(source)
    if package.sealed:
        raise PackageError(source, "the package is sealed already", field="licence")
    target = weights_dir / package.manifest.name / package.manifest.version
    with staged_folder(target) as folder:
        document = json.loads((source / MANIFEST_FILE).read_text(encoding="utf-8-sig"))
        publisher_key = encode_base64(publisher.public_key().public_bytes_raw())
        document["licence"] = {"publisher": contact, "publisher_key": publisher_key}
        _copy_other_files(package, folder)
        _seal_into(folder, document, package, publisher)
        read_package(folder)
    return load_package(target)


def _seal_into(
    folder: Path, document: dict[str, Any], package: Package, publisher: Ed25519PrivateKey
) -> None:
    """Write the sealed model, the manifest that names it, and its signature."""
    plain = package.model_path.read_bytes()
    if len(plain) > MAX_MODEL_BYTES:
        raise PackageError(package.model_path, "a model of 2 GiB or more cannot be sealed")
    manifest = parse_manifest(dump_manifest(document), MANIFEST_FILE)
    sealed = seal_model(plain, content_key(publisher, manifest.name), manifest)
    name = package.model_path.name + SEALED_SUFFIX
    (folder / name).write_bytes(sealed)
    document["model"] |= {"file": name, "sha256": hashlib.sha256(sealed).hexdigest()}
    raw = dump_manifest(document)
    (folder / MANIFEST_FILE).write_bytes(raw)
    signature = encode_base64(publisher.sign(raw))
    (folder / SIGNATURE_FILE).write_text(f"{signature}\n", encoding="ascii")


def _copy_other_files(package: Package, folder: Path) -> None:
    # ARCHIVE_SIGNATURE signs the open manifest, so it is dropped.
    replaced = {package.model_path.name, MANIFEST_FILE, SIGNATURE_FILE, ARCHIVE_SIGNATURE}
    for path in package.folder.iterdir():
        if path.name not in replaced and path.is_file():
            shutil.copyfile(path, folder / path.name)
