"""Small JSON files whose bytes must arrive unchanged."""

import json
from pathlib import Path
from typing import Any

from app.errors import LicenceError
from app.system.files import open_regular

MAX_DOCUMENT_BYTES = 1_000_000

HOW_TO_SEND = "have it sent again, as an attachment, and do not open it in an editor"


def dump_document(document: dict[str, Any]) -> bytes:
    """Serialise a document in its canonical form."""
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def load_document(path: Path) -> dict[str, Any]:
    """Read a document and check that its bytes are the ones that dump_document writes.

    Raises:
        LicenceError: it cannot be read, is not a JSON object, or is not in canonical form.
    """
    try:
        with open_regular(path) as stream:
            raw = stream.read(MAX_DOCUMENT_BYTES)
        document = json.loads(raw)
        if not isinstance(document, dict) or dump_document(document) != raw:
            raise LicenceError(f"{path} was changed since it was written; {HOW_TO_SEND}")
    except OSError as exc:
        raise LicenceError(f"{path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise LicenceError(f"{path} is damaged: it is not JSON; {HOW_TO_SEND}") from exc
    return document
