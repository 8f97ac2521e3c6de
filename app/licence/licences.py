"""The licences of one worker: checked in the background, consulted by every request."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import AuthFailed, LockedPackage
from app.licence.facts import Facts, read_facts
from app.licence.folder import Decision, LicenceFolder
from app.licence.verdict import Verdict
from app.packages.manifest import LicenceSpec, Manifest

REFRESH_S = 2
"""Seconds until a new licence, or the end of one, takes effect."""

FACTS_EVERY_S = 600
"""Hardware rarely changes without a restart; a GPU that is lost while running shows then."""

MAX_AGE_S = 60
"""Age from which a verdict no longer counts, because something keeps the checks from ending."""

REMIND_EVERY_S = 86_400

_TOO_OLD = Verdict(
    "refused",
    f"the licence was not checked for {MAX_AGE_S} s",
    "see the log, check the licence and state folders and their disks, and restart the server",
)

_log = logging.getLogger(__name__)


@dataclass
class _Entry:
    """The state of one deploy name and publisher.

    Attributes:
        name: the deploy name.
        spec: its manifest's licence block.
        verdict: the result of the last check.
        checked_at: when that was, in seconds of running time.
        is_locked: whether its model waits for a licence.
        is_suspect: whether the last check failed in a way that may be temporary.
        was_needed: whether a loaded package has needed it.
        is_unneeded: whether no package needed it at the last check.
        logged_at: time.monotonic() when the verdict was last logged, 0 for never.
    """

    name: str
    spec: LicenceSpec
    verdict: Verdict
    checked_at: int = 0
    is_locked: bool = False
    is_suspect: bool = False
    was_needed: bool = False
    is_unneeded: bool = False
    logged_at: float = 0.0


class Licences:
    """Verdicts for the packages of one worker; thread-safe.

    Args:
        licence_dir: the folder of the ``.licence`` files.
        state_dir: the folder of the machine's key.
        device: ``cpu`` or ``cuda:N``.
        card: the UUID of that GPU, empty for the CPU.
        read: reads this machine's facts.
    """

    def __init__(
        self,
        licence_dir: Path,
        state_dir: Path,
        device: str,
        card: str,
        read: Callable[[], Facts] = read_facts,
    ) -> None:
        cards = (card,) if card else ()
        self._folder = LicenceFolder(
            licence_dir, state_dir, "cpu" if device == "cpu" else "gpu", cards
        )
        self._read = read
        self._facts: Facts = {}
        self._facts_until = float("-inf")
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._lock = threading.Lock()
        self._running_s = 0

    def require(self, manifest: Manifest) -> None:
        """Check that a package may answer a request. It takes a microsecond.

        Raises:
            AuthFailed: its licence does not cover this machine, device, name or date.
        """
        if manifest.licence is None:
            return
        entry = self._entries.get((manifest.name, manifest.licence.publisher_key))
        if entry is None:
            raise AuthFailed("the licence was not checked yet")
        verdict = self._verdict_of(entry)
        if not verdict.serves:
            raise AuthFailed(verdict.detail)

    def unlock(self, manifest: Manifest) -> bytes | None:
        """Return the content key of a package that is about to be loaded.

        Returns:
            The key of a sealed package; None for one that needs no licence.

        Raises:
            LockedPackage: no licence unlocks it now. When that changes, ``on_change`` of
                watch is called with the deploy name.
        """
        spec = manifest.licence
        if spec is None:
            return None
        with self._lock:
            decision = self._folder.best(manifest.name, spec, self._current_facts())
            entry = self._entries.setdefault(
                (manifest.name, spec.publisher_key), _Entry(manifest.name, spec, decision.verdict)
            )
            self._apply(entry, decision)
            entry.is_locked = True
            if not decision.verdict.serves:
                raise LockedPackage(manifest.name, decision.verdict.detail, field="licence")
            key = self._folder.content_key(decision, manifest.name)
            entry.is_locked = False
        return key

    def watch(
        self, on_change: Callable[[str], None], publishers: Callable[[], Mapping[str, Set[str]]]
    ) -> None:
        """Start a thread that checks all licences every REFRESH_S seconds.

        Args:
            on_change: called with the name of a locked package whose verdict has changed.
            publishers: returns for each deploy name the public keys of its packages'
                publishers; verdicts on anything else are dropped.
        """

        def run() -> None:
            while True:
                time.sleep(REFRESH_S)
                try:
                    self.refresh(on_change, publishers())
                except Exception:
                    # The verdicts in force remain, and the next check may succeed.
                    _log.exception("the licences could not be checked")

        threading.Thread(target=run, name="licences", daemon=True).start()
        threading.Thread(target=self._count_seconds, name="licence-age", daemon=True).start()

    def refresh(self, on_change: Callable[[str], None], publishers: Mapping[str, Set[str]]) -> None:
        """Check the licence of every package that needs one; see watch."""
        changed: list[str] = []
        with self._lock:
            self._drop_unneeded(publishers)
            for entry in list(self._entries.values()):
                before = entry.verdict
                decision = self._folder.best(entry.name, entry.spec, self._current_facts())
                # A licence that served and is now unreadable may be in the middle of a
                # replacement: the second failure counts.
                is_lost = before.serves and not decision.verdict.serves and not decision.licence
                entry.is_suspect = is_lost and not entry.is_suspect
                if entry.is_suspect:
                    continue
                self._apply(entry, decision)
                if entry.is_locked and _differs(entry.verdict, before):
                    changed.append(entry.name)
        for name in changed:
            on_change(name)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the verdict for each deploy name that needs a licence.

        If one publisher's version answers and another's waits for its licence, it is the
        verdict on the one that answers.
        """
        verdicts = [(e.name, self._verdict_of(e)) for e in list(self._entries.values())]
        return {
            name: {
                "state": verdict.state,
                "serves": verdict.serves,
                "days_left": verdict.days_left,
                "serial": verdict.serial,
                "detail": verdict.detail,
                "warning": verdict.is_warning,
            }
            for name, verdict in sorted(verdicts, key=lambda pair: (pair[0], pair[1].serves))
        }

    def _count_seconds(self) -> None:
        """Count the time for which this process runs; it does no input or output.

        Unlike a clock, it stands still while the process is stopped: no verdict is too old
        for the first request afterwards.
        """
        while True:
            time.sleep(1)
            self._running_s += 1
            ages = [self._running_s - entry.checked_at for entry in list(self._entries.values())]
            if MAX_AGE_S + 1 in ages:
                _log.error("licences: %s; %s", _TOO_OLD.detail, _TOO_OLD.advice)

    def _verdict_of(self, entry: _Entry) -> Verdict:
        age_s = self._running_s - entry.checked_at
        return entry.verdict if age_s <= MAX_AGE_S else _TOO_OLD

    def _drop_unneeded(self, publishers: Mapping[str, Set[str]]) -> None:
        """Drop entries that no package needs any longer.

        Only entries that were needed before, as a package is listed only once it is loaded;
        and one check late, as a request may still use the package that was replaced.
        """
        for (name, publisher_key), entry in list(self._entries.items()):
            is_needed = publisher_key in publishers.get(name, ())
            if entry.was_needed and entry.is_unneeded and not is_needed:
                del self._entries[name, publisher_key]
            entry.is_unneeded = not is_needed
            entry.was_needed = entry.was_needed or is_needed

    def _current_facts(self) -> Facts:
        now = time.monotonic()
        if now >= self._facts_until:
            self._facts, self._facts_until = self._read(), now + FACTS_EVERY_S
        return self._facts

    def _apply(self, entry: _Entry, decision: Decision) -> None:
        """Put a decision in force, record it, and log it when it is new or due."""
        is_new = entry.logged_at == 0 or _differs(decision.verdict, entry.verdict)
        entry.verdict, entry.checked_at = decision.verdict, self._running_s
        self._folder.note(decision)
        now = time.monotonic()
        if is_new or now >= entry.logged_at + REMIND_EVERY_S:
            _log_verdict(entry)
            entry.logged_at = now


def _differs(one: Verdict, other: Verdict) -> bool:
    return (one.state, one.detail, one.serial) != (other.state, other.detail, other.serial)


def _log_verdict(entry: _Entry) -> None:
    verdict = entry.verdict
    fields = {
        "deploy_name": entry.name,
        "licence": verdict.serial,
        "state": verdict.state,
        "days_left": verdict.days_left,
        "facts": verdict.matches,
        "detail": verdict.detail,
        "advice": verdict.advice,
    }
    if not verdict.serves:
        _log.error("licence of %s: refused", entry.name, extra={"fields": fields})
    elif verdict.is_warning:
        fields["advice"] = verdict.advice or f"ask {entry.spec.publisher} to renew it"
        _log.warning("licence of %s", entry.name, extra={"fields": fields})
    else:
        _log.info("licence of %s: valid", entry.name, extra={"fields": fields})
