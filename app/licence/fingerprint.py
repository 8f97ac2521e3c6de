"""The fingerprint of a machine: salted hashes of its facts, and its public key."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.errors import LicenceError
from app.licence.documents import dump_document, load_document
from app.licence.facts import Facts
from app.packages.sealing import decode_base64_strictly, encode_base64

FORMAT = 1
SALT_BYTES = 16
HASH_BYTES = 16

SCRYPT_COST = 2**14
"""About 40 ms for each fact: a fast hash of a network address could be reversed by search."""

MACHINE_FACTS = ("machine_id", "board", "cpu", "disk", "network")
"""The facts that a licence counts; a GPU is matched separately."""

SHARED_FACTS = frozenset({"cpu"})
"""Facts that other machines of the series share, so that alone they identify nothing."""

HashedFacts = dict[str, list[str]]


@dataclass(frozen=True)
class Fingerprint:
    """What a publisher learns about a machine.

    Attributes:
        salt: random, for this fingerprint only.
        facts: for each kind the hashes of its values.
        cards: the model name of each NVIDIA GPU by the hash of its UUID.
        machine_key: the raw X25519 public key.
    """

    salt: bytes
    facts: HashedFacts
    cards: dict[str, str]
    machine_key: bytes


def take_fingerprint(facts: Facts, card_models: dict[str, str], machine_key: bytes) -> Fingerprint:
    """Hash a machine's facts with a new salt.

    Args:
        facts: from read_facts.
        card_models: from gpu_models.
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
    """Hash every value of the counted facts."""
    return {
        kind: [hash_fact(salt, kind, value) for value in facts[kind]]
        for kind in MACHINE_FACTS
        if kind in facts
    }


@lru_cache(maxsize=256)
def hash_fact(salt: bytes, kind: str, value: str) -> str:
    """Hash one value with scrypt, in hexadecimal."""
    return hashlib.scrypt(
        value.encode(), salt=salt + kind.encode(), n=SCRYPT_COST, r=8, p=1, dklen=HASH_BYTES
    ).hex()


def fingerprint_bytes(fingerprint: Fingerprint) -> bytes:
    """Write the fingerprint file for the publisher."""
    body = {
        "format": FORMAT,
        "salt": encode_base64(fingerprint.salt),
        "facts": fingerprint.facts,
        "cards": fingerprint.cards,
        "machine_key": encode_base64(fingerprint.machine_key),
    }
    return dump_document({"fingerprint": body, "checksum": _checksum(body)})


def read_fingerprint(path: Path) -> Fingerprint:
    """Read a fingerprint file.

    Raises:
        LicenceError: it cannot be read, is damaged, or is not a fingerprint.
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
            f"{path} is not a fingerprint of format {FORMAT}, or is damaged; have the customer run "
            "classifyd licence fingerprint again and send the file as an attachment"
        ) from exc


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(dump_document(body)).hexdigest()
