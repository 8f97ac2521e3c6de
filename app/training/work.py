"""The work folder, with which an interrupted training goes on."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.errors import OperatorError
from app.inference.engines.base import FloatArray
from app.system.files import acquire_lock, atomic_write

LOCK_FILE = ".lock"


@contextmanager
def claim_work_folder(folder: Path) -> Iterator[Path]:
    """Create the work folder and keep other trainings out of it.

    Raises:
        OperatorError: another training uses it.
        OSError: it cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = acquire_lock(folder / LOCK_FILE, wait=False)
    except BlockingIOError as exc:
        raise OperatorError(
            f"{folder}: another training of this name is running; wait for it, or give another "
            "--name"
        ) from exc
    with open(descriptor, "rb"):
        yield folder


def key_of(parts: Mapping[str, Any]) -> str:
    """Identify what a stored result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def save_features(path: Path, digests: list[str], features: FloatArray) -> None:
    """Store the features of some photos, float32 (photos, width), by the SHA-256 of the photos."""
    buffer = io.BytesIO()
    np.savez(buffer, digests=np.array(digests), features=features)
    with atomic_write(path) as stream:
        stream.write(buffer.getvalue())


def load_features(folder: Path) -> dict[str, FloatArray]:
    """Read all stored features, without pickle."""
    found: dict[str, FloatArray] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            rows = zip(stored["digests"], stored["features"], strict=True)
            found |= {str(digest): row for digest, row in rows}
    return found


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Store tensors and numbers."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_write(path) as stream:
        stream.write(buffer.getvalue())


def load_state(path: Path) -> dict[str, Any] | None:
    """Read what save_state stored, None if there is nothing; no code runs from it."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
