"""Small JSON documents that must come back byte for byte as they were written."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from app.errors import LicenceError

MAX_DOCUMENT_BYTES = 1_000_000


def dump_document(document: dict[str, Any]) -> bytes:
    """Write a document in the one spelling that it has."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def load_document(path: Path) -> dict[str, Any]:
    """Read a document and check that its bytes are the ones that dump_document writes.

    Raises:
        LicenceError: it cannot be read, is no JSON object, or has another spelling.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_DOCUMENT_BYTES)
        document = json.loads(raw)
        if not isinstance(document, dict) or dump_document(document) != raw:
            raise LicenceError(f"{path} was changed since it was written; {HOW_TO_SEND}")
    except OSError as exc:
        raise LicenceError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise LicenceError(f"{path} is damaged: it is not JSON; {HOW_TO_SEND}") from exc
    return document


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees all of it or the one before.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


HOW_TO_SEND = "have it sent again, as an attachment, and do not open it in an editor"
