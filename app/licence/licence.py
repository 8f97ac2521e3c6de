"""The licence that a publisher grants to one machine, and its signed file."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from app.errors import LicenceError
from app.licence.documents import HOW_TO_SEND, dump_document, load_document
from app.licence.fingerprint import SALT_BYTES, HashedFacts
from app.licence.keys import WRAPPED_KEY_BYTES
from app.packages.sealing import decode_base64_strictly, encode_base64

FORMAT = 1
LICENCE_SUFFIX = ".licence"

DeviceClass = Literal["cpu", "gpu"]
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Tolerance:
    """How much of a machine may change.

    Attributes:
        required: number of matching facts with which the licence is fully valid.
        partial: number of matching facts with which it is valid for grace_days.
        grace_days: days of validity from the first partial match.
    """

    required: int
    partial: int
    grace_days: int


@dataclass(frozen=True)
class Licence:
    """The content of a licence; times are Unix seconds.

    Attributes:
        serial: identifies the licence in a support call.
        licensee: name of the customer.
        deploy_names: of the packages.
        device: ``cpu``, or ``gpu`` for one GPU.
        card: the hash of the GPU's UUID, empty for a CPU.
        issued: time of issue.
        not_before: the first valid second.
        expires: the first second that is no longer valid; None for a permanent licence.
        salt: of the fingerprint.
        facts: the fingerprint's hashes.
        machine_key: the machine's raw public key.
        tolerance: see Tolerance.
        wrapped_keys: the content key of each deploy name, encrypted for the machine.
        publisher_key: the raw public key that verifies the signature.
    """

    serial: str
    licensee: str
    deploy_names: tuple[str, ...]
    device: DeviceClass
    card: str
    issued: int
    not_before: int
    expires: int | None
    salt: bytes
    facts: HashedFacts
    machine_key: bytes
    tolerance: Tolerance
    wrapped_keys: dict[str, bytes]
    publisher_key: bytes


def sign_licence(licence: Licence, publisher: Ed25519PrivateKey) -> bytes:
    """Write the licence file for the customer."""
    body = _to_body(licence)
    signature = publisher.sign(dump_document(body))
    return dump_document({"licence": body, "signature": encode_base64(signature)})


def read_licence(path: Path) -> Licence:
    """Read a licence file and verify its signature with the key that it contains.

    The caller checks that this is the key of the package's publisher.

    Raises:
        LicenceError: it cannot be read, was changed, or is not a licence of this format.
    """
    document = load_document(path)
    try:
        body = document["licence"]
        if body["format"] != FORMAT:
            raise ValueError("format")
        licence = _from_body(body)
        signature = decode_base64_strictly(document["signature"], 64)
        key = Ed25519PublicKey.from_public_bytes(licence.publisher_key)
        key.verify(signature, dump_document(body))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise LicenceError(
            f"{path} is not a licence of format {FORMAT}, or is damaged; {HOW_TO_SEND}"
        ) from exc
    except InvalidSignature as exc:
        raise LicenceError(
            f"{path}: wrong signature, the licence was changed after it was issued; {HOW_TO_SEND}"
        ) from exc
    return licence


def to_time(seconds: int) -> str:
    """Write Unix seconds as UTC, such as ``2026-11-23T00:00:00Z``."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime(TIME_FORMAT)


def from_time(text: str) -> int:
    """Read a time that to_time has written.

    Raises:
        ValueError: the text has another form.
    """
    moment = datetime.datetime.strptime(text, TIME_FORMAT).replace(tzinfo=datetime.UTC)
    return int(moment.timestamp())


def _to_body(licence: Licence) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "serial": licence.serial,
        "licensee": licence.licensee,
        "deploy_names": list(licence.deploy_names),
        "device": licence.device,
        "card": licence.card,
        "issued": to_time(licence.issued),
        "not_before": to_time(licence.not_before),
        "expires": None if licence.expires is None else to_time(licence.expires),
        "machine": {
            "salt": encode_base64(licence.salt),
            "facts": licence.facts,
            "key": encode_base64(licence.machine_key),
        },
        "tolerance": vars(licence.tolerance),
        "content_keys": {name: encode_base64(key) for name, key in licence.wrapped_keys.items()},
        "publisher_key": encode_base64(licence.publisher_key),
    }


def _from_body(body: dict[str, Any]) -> Licence:
    machine, expires = body["machine"], body["expires"]
    return Licence(
        serial=body["serial"],
        licensee=body["licensee"],
        deploy_names=tuple(body["deploy_names"]),
        device=body["device"],
        card=body["card"],
        issued=from_time(body["issued"]),
        not_before=from_time(body["not_before"]),
        expires=None if expires is None else from_time(expires),
        salt=decode_base64_strictly(machine["salt"], SALT_BYTES),
        facts=machine["facts"],
        machine_key=decode_base64_strictly(machine["key"], 32),
        tolerance=Tolerance(**body["tolerance"]),
        wrapped_keys={
            name: decode_base64_strictly(text, WRAPPED_KEY_BYTES)
            for name, text in body["content_keys"].items()
        },
        publisher_key=decode_base64_strictly(body["publisher_key"], 32),
    )
