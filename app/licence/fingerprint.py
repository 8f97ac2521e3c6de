"""The fingerprint of a machine: salted hashes of its facts, and its public key."""

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.errors import LicenceError
from app.licence.documents import dump_document, load_document
from app.licence.facts import Facts
from app.packages.sealing import decode_base64_strictly

FORMAT = 1
SALT_BYTES = 16
HASH_BYTES = 16

SCRYPT_COST = 2**14
"""About 40 ms a fact: a network address has so few values that a fast hash would show it."""

MACHINE_FACTS = ("machine_id", "board", "cpu", "disk", "network")
"""What k of n is counted over; a card is asked for by name instead."""

SHARED_FACTS = frozenset({"cpu"})
"""What other machines of the series have too: it supports the others, alone it says nothing."""

HashedFacts = dict[str, list[str]]


@dataclass(frozen=True)
class Fingerprint:
    """What a publisher learns of a machine.

    Attributes:
        salt: random, of this fingerprint alone.
        facts: for each kind the hashes of its values.
        cards: the model's name of each NVIDIA card by the hash of its UUID.
        machine_key: the raw X25519 public key.
    """

    salt: bytes
    facts: HashedFacts
    cards: dict[str, str]
    machine_key: bytes


def take_fingerprint(facts: Facts, card_models: dict[str, str], machine_key: bytes) -> Fingerprint:
    """Hash a machine's facts with a new salt.

    Args:
        facts: as read_facts gives them.
        card_models: as gpu_models gives them.
        machine_key: the raw public key.
    """
    salt = os.urandom(SALT_BYTES)
    return Fingerprint(
        salt=salt,
        facts=hash_facts(facts, salt),
        cards={hash_fact(salt, "gpu", uuid): model for uuid, model in card_models.items()},
        machine_key=machine_key,
    )


def hash_facts(facts: Facts, salt: bytes) -> HashedFacts:
    """Hash every value of the facts that are counted."""
    return {
        kind: [hash_fact(salt, kind, value) for value in facts[kind]]
        for kind in MACHINE_FACTS
        if kind in facts
    }


@lru_cache(maxsize=256)
def hash_fact(salt: bytes, kind: str, value: str) -> str:
    """Hash one value, slowly, in hexadecimal."""
    return hashlib.scrypt(
        value.encode(), salt=salt + kind.encode(), n=SCRYPT_COST, r=8, p=1, dklen=HASH_BYTES
    ).hex()


def fingerprint_bytes(fingerprint: Fingerprint) -> bytes:
    """Write a fingerprint as the file that a customer sends."""
    body = {
        "format": FORMAT,
        "salt": _text(fingerprint.salt),
        "facts": fingerprint.facts,
        "cards": fingerprint.cards,
        "machine_key": _text(fingerprint.machine_key),
    }
    return dump_document({"fingerprint": body, "checksum": _checksum(body)})


def read_fingerprint(path: Path) -> Fingerprint:
    """Read a fingerprint file.

    Raises:
        LicenceError: it cannot be read, is damaged, or is no fingerprint.
    """
    document = load_document(path)
    try:
        body = document["fingerprint"]
        if document["checksum"] != _checksum(body) or body["format"] != FORMAT:
            raise ValueError
        return Fingerprint(
            salt=decode_base64_strictly(body["salt"], SALT_BYTES),
            facts={str(kind): [str(h) for h in hashes] for kind, hashes in body["facts"].items()},
            cards={str(h): str(model) for h, model in body["cards"].items()},
            machine_key=decode_base64_strictly(body["machine_key"], 32),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise LicenceError(
            f"{path} is no undamaged fingerprint of format {FORMAT}; have the customer run "
            "classifyd licence fingerprint again and send the file as an attachment"
        ) from exc


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(dump_document(body)).hexdigest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
