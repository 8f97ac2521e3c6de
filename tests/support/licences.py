"""A publisher and a customer for tests: sealed packages, licences, a machine's state."""

import dataclasses
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.licence.clock import ClockRecord
from app.licence.facts import read_facts
from app.licence.fingerprint import Fingerprint, take_fingerprint
from app.licence.issue import issue_licence, seal_package
from app.licence.keys import clock_key, ensure_machine_key
from app.licence.licence import Licence, sign_licence
from app.packages.package import Package
from tests.support.packages import build_colour_package

CONTACT = "Example Ltd <licence@example.com>"
LABELS = ["red", "green", "blue"]


def build_sealed_package(
    weights_dir: Path, name: str, publisher: Ed25519PrivateKey, version: str = "1"
) -> Package:
    """Build and seal the package of build_colour_package."""
    source = build_colour_package(weights_dir.parent / f"open-{name}", name, LABELS, version)
    return seal_package(source, weights_dir, publisher, CONTACT)


def customer_fingerprint(state_dir: Path, root: Path = Path("/")) -> Fingerprint:
    """Take a fingerprint as ``classifyd licence fingerprint`` does, of the machine under a root."""
    state_dir.mkdir(parents=True, exist_ok=True)
    key = ensure_machine_key(state_dir)
    ClockRecord(state_dir, clock_key(key)).create()
    facts = read_facts(root)
    cards = dict.fromkeys(facts.get("gpu", ()), "card")
    return take_fingerprint(facts, cards, key.public_key().public_bytes_raw())


def write_licence(
    path: Path,
    publisher: Ed25519PrivateKey,
    fingerprint: Fingerprint,
    *names: str,
    days: int | None = None,
    **changes: object,
) -> Licence:
    """Issue a licence and install it; changes are fields of the signed licence."""
    licence = issue_licence(publisher, fingerprint, "A Customer", names, days=days)
    licence = dataclasses.replace(licence, **changes)  # type: ignore[arg-type]  # by name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(sign_licence(licence, publisher))
    temporary.replace(path)
    return licence
