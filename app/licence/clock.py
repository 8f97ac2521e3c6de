"""What the state folder remembers of the clock, so that setting it back gains nothing.

The record is kept by licence: a renewed one begins anew, which is also the way out for a
machine whose clock once stood in the future.
"""

import fcntl
import hmac
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.licence.documents import dump_document, write_whole
from app.licence.keys import give_to_owner

CLOCK_FILE = "licence_clock.json"
LOCK_FILE = "licence_clock.lock"

WRITE_EVERY_S = 60
"""How far the record may lag behind; the disk is spared the rest."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Memory:
    """What is remembered of one licence; times are Unix seconds.

    Attributes:
        seen: the latest time at which it was judged.
        partial_since: when the machine first matched in part only; None when it matches.
    """

    seen: int
    partial_since: int | None = None


class ClockRecord:
    """The record in a state folder.

    A record that is lost or damaged stops nothing: of each licence it is then taken that
    its time began when it was issued, for the clock and for the days of grace.

    Args:
        state_dir: the folder.
        key: authenticates the file, so that it cannot be edited without the machine's key.
    """

    def __init__(self, state_dir: Path, key: bytes) -> None:
        self._state_dir = state_dir
        self._path = state_dir / CLOCK_FILE
        self._key = key

    def create(self) -> None:
        """Write an empty record where there is none.

        Raises:
            OSError: it cannot be written.
        """
        if not self._path.exists():
            self._write({})
            give_to_owner(self._path)

    def recall(self, serial: str, issued: int, now: int) -> Memory:
        """Return what is remembered of a licence; see the class for a lost record."""
        memories = self._read()
        if memories is None:
            return Memory(issued, issued)
        return memories.get(serial, Memory(min(issued, now)))

    def remember(self, serial: str, now: int, is_partial: bool, issued: int) -> None:
        """Note that a licence was judged; what cannot be written is logged and forgotten."""
        try:
            with self._locked():
                before = self.recall(serial, issued, now)
                # Under the lock: another worker may have been here in the meantime.
                after = Memory(max(before.seen, now), _partial_since(before, now, is_partial))
                memories = self._read()
                if memories is None:
                    _log.warning("%s was lost or damaged and is begun anew", self._path)
                if memories is None or _is_worth_writing(before, after):
                    self._write((memories or {}) | {serial: after})
        except OSError as exc:
            _log.warning("%s cannot be written: %s", self._path, exc.strerror)

    def _read(self) -> dict[str, Memory] | None:
        try:
            document = json.loads(self._path.read_bytes())
            body = document["record"]
            if not hmac.compare_digest(str(document["mac"]), self._mac(body)):
                raise ValueError("mac")
            return {serial: Memory(**memory) for serial, memory in body.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _write(self, memories: dict[str, Memory]) -> None:
        body = {serial: vars(memory) for serial, memory in memories.items()}
        write_whole(self._path, dump_document({"record": body, "mac": self._mac(body)}), 0o600)

    def _mac(self, body: object) -> str:
        data = json.dumps(body, sort_keys=True).encode()
        return hmac.digest(self._key, data, "sha256").hex()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._state_dir / LOCK_FILE, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _partial_since(before: Memory, now: int, is_partial: bool) -> int | None:
    if not is_partial:
        return None
    return now if before.partial_since is None else before.partial_since


def _is_worth_writing(before: Memory, after: Memory) -> bool:
    # A new licence differs too: what recall made up for it is not in the file yet.
    return after != replace(before, seen=after.seen) or after.seen >= before.seen + WRITE_EVERY_S
