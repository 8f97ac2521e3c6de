"""The record of the clock in the state folder, so that setting the clock back gains nothing.

The record is kept for each licence: a renewed licence starts a new one. That also helps a
machine whose clock was once in the future.
"""

import hmac
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from app.licence.documents import dump_document
from app.system.files import atomic_write, file_lock, read_regular

CLOCK_FILE = "licence_clock.json"
LOCK_FILE = "licence_clock.lock"

WRITE_EVERY_S = 60
"""How far the recorded time may lag, to save disk writes."""

LOCK_TIMEOUT_S = 0.2
"""A worker holds the lock for milliseconds; one that is held longer must not stop the checks."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClockEntry:
    """The record of one licence; times are Unix seconds.

    Attributes:
        seen: the latest time at which it was checked.
        partial_since: when the machine first matched in part only; None while it matches.
    """

    seen: int
    partial_since: int | None = None


class ClockRecord:
    """The record in a state folder.

    A lost or damaged record stops nothing: the time and the grace days of each licence then
    count from its issue.

    Args:
        state_dir: the folder.
        key: authenticates the file: only a holder of the machine's key can edit it.
    """

    def __init__(self, state_dir: Path, key: bytes) -> None:
        self._state_dir = state_dir
        self._path = state_dir / CLOCK_FILE
        self._key = key

    def create(self) -> None:
        """Write an empty record if there is none.

        Raises:
            OSError: it cannot be written.
        """
        if not self._path.exists():
            self._write({})

    def recall(self, serial: str, issued: int, now: int) -> ClockEntry:
        """Return the entry of a licence; see the class for a lost record."""
        entries = self._read()
        if entries is None:
            return ClockEntry(issued, issued)
        return entries.get(serial, ClockEntry(min(issued, now)))

    def remember(self, serial: str, now: int, is_partial: bool, issued: int) -> None:
        """Record that a licence was checked.

        Raises:
            OSError: it cannot be written, or another process holds its lock.
        """
        with file_lock(self._state_dir / LOCK_FILE, 0o600, LOCK_TIMEOUT_S):
            # Read under the lock: another worker may have written since.
            before = self.recall(serial, issued, now)
            since = before.partial_since or now
            after = ClockEntry(max(before.seen, now), since if is_partial else None)
            entries = self._read()
            if entries is None:
                _log.warning("%s was lost or damaged; it starts again", self._path)
            has_changed = after.partial_since != before.partial_since
            if entries is None or has_changed or after.seen >= before.seen + WRITE_EVERY_S:
                self._write((entries or {}) | {serial: after})

    def _read(self) -> dict[str, ClockEntry] | None:
        try:
            document = json.loads(read_regular(self._path))
            body = document["record"]
            if not hmac.compare_digest(str(document["mac"]), self._mac(body)):
                raise ValueError("mac")
            return {serial: ClockEntry(**entry) for serial, entry in body.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _write(self, entries: dict[str, ClockEntry]) -> None:
        body = {serial: vars(entry) for serial, entry in entries.items()}
        with atomic_write(self._path, 0o600, owner_of=self._state_dir) as stream:
            stream.write(dump_document({"record": body, "mac": self._mac(body)}))

    def _mac(self, body: object) -> str:
        data = json.dumps(body, sort_keys=True).encode()
        return hmac.digest(self._key, data, "sha256").hex()
