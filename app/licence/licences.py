"""The licences of one worker: judged in the background, asked by every request."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import AuthFailed, LockedPackage
from app.licence.facts import Facts, read_facts
from app.licence.folder import Decision, LicenceFolder
from app.licence.licence import DeviceClass
from app.licence.verdict import Verdict
from app.packages.manifest import LicenceSpec, Manifest

REFRESH_S = 2
"""How long a licence that was put in place, or has expired, may take to count."""

FACTS_EVERY_S = 600
"""Hardware changes with a restart, mostly; a card that is lost while running shows then."""

REMIND_EVERY_S = 86_400

Publishers = Callable[[], Mapping[str, Set[str]]]
"""For each deploy name the public keys of the publishers whose licence its packages need."""

_log = logging.getLogger(__name__)


@dataclass
class _Case:
    """What is known of one deploy name and publisher.

    Attributes:
        name: the deploy name.
        spec: whose licence it needs.
        verdict: in force.
        is_locked: whether its model waits for a licence to be opened.
        is_doubted: whether its licence could not be read in the last round, for the first time.
        was_listed: whether a package that is here was seen to need it.
        is_leaving: whether none did in the last round.
        logged_at: time.monotonic() when the verdict was last told, 0 for never.
    """

    name: str
    spec: LicenceSpec
    verdict: Verdict
    is_locked: bool = False
    is_doubted: bool = False
    was_listed: bool = False
    is_leaving: bool = False
    logged_at: float = 0.0


@dataclass(frozen=True)
class _FactsAt:
    """Facts, and the time.monotonic() at which they were read."""

    facts: Facts = field(default_factory=dict)
    at: float = float("-inf")


class Licences:
    """Verdicts for the packages of one worker; safe to share between threads.

    Args:
        licence_dir: the folder of the ``.licence`` files.
        state_dir: the folder of the machine's key.
        device: ``cpu`` or ``cuda:N``.
        card: the UUID of that card, empty for the CPU.
        read: how this machine's facts are read.
    """

    def __init__(
        self,
        licence_dir: Path,
        state_dir: Path,
        device: str,
        card: str,
        read: Callable[[], Facts] = read_facts,
    ) -> None:
        kind: DeviceClass = "cpu" if device == "cpu" else "gpu"
        self._folder = LicenceFolder(licence_dir, state_dir, kind, (card,) if card else ())
        self._read = read
        self._facts_at = _FactsAt()
        self._cases: dict[tuple[str, str], _Case] = {}
        self._lock = threading.Lock()

    def require(self, manifest: Manifest) -> None:
        """Let a request for a package pass, or not. One look into memory: a microsecond.

        Raises:
            AuthFailed: its licence does not cover this machine, device, name or date.
        """
        if manifest.licence is None:
            return
        case = self._cases.get((manifest.name, manifest.licence.publisher_key))
        if case is None or not case.verdict.serves:
            raise AuthFailed(case.verdict.detail if case else "the licence was not checked yet")

    def unlock(self, manifest: Manifest) -> bytes | None:
        """Give the content key of a package that is about to be loaded.

        Returns:
            The key of a sealed package; None for one that needs no licence.

        Raises:
            LockedPackage: no licence opens it now. When that changes, the function that
                watch was given is called with the deploy name.
        """
        spec = manifest.licence
        if spec is None:
            return None
        with self._lock:
            decision = self._folder.best(manifest.name, spec, self._facts())
            case = self._cases.setdefault(
                (manifest.name, spec.publisher_key), _Case(manifest.name, spec, decision.verdict)
            )
            self._reconcile(case, decision)
            case.is_locked = True
            if not decision.verdict.serves:
                raise LockedPackage(manifest.name, "licence", decision.verdict.detail)
            key = self._folder.content_key(decision, manifest.name)
            case.is_locked = False
        return key

    def watch(self, on_change: Callable[[str], None], publishers: Publishers) -> None:
        """Start to judge again every REFRESH_S seconds, for as long as the process lives.

        Args:
            on_change: called with the name of a locked package whose verdict has changed.
            publishers: what needs a licence now; verdicts on anything else are dropped.
        """

        def run() -> None:
            while True:
                time.sleep(REFRESH_S)
                try:
                    self.refresh(on_change, publishers())
                except Exception:
                    # The next round may do better, and the verdicts in force stand.
                    _log.exception("the licences could not be checked")

        threading.Thread(target=run, name="licences", daemon=True).start()

    def refresh(self, on_change: Callable[[str], None], publishers: Mapping[str, Set[str]]) -> None:
        """Judge every package that needs a licence; see watch."""
        changed: list[str] = []
        with self._lock:
            self._drop_unneeded(publishers)
            for case in list(self._cases.values()):
                before = case.verdict
                decision = self._folder.best(case.name, case.spec, self._facts())
                case.is_doubted = not case.is_doubted and _may_be_half_written(before, decision)
                if case.is_doubted:
                    continue
                self._reconcile(case, decision)
                if case.is_locked and _differs(case.verdict, before):
                    changed.append(case.name)
        for name in changed:
            on_change(name)

    def describe(self) -> dict[str, dict[str, Any]]:
        """For each deploy name that needs a licence, how it stands.

        While a version of one publisher answers and another's waits for its licence, it is
        the verdict on the version that answers.
        """
        return {
            case.name: {
                "state": case.verdict.state,
                "serves": case.verdict.serves,
                "days_left": case.verdict.days_left,
                "serial": case.verdict.serial,
                "detail": case.verdict.detail,
                "warning": case.verdict.is_warning,
            }
            for case in sorted(
                self._cases.values(), key=lambda case: (case.name, case.verdict.serves)
            )
        }

    def _drop_unneeded(self, publishers: Mapping[str, Set[str]]) -> None:
        """Forget cases that no package needs any longer.

        Not before they were needed once, as a package that is being loaded is listed when it
        is ready; and a round late, as a request may have looked up what it replaces.
        """
        for key, case in list(self._cases.items()):
            is_listed = key[1] in publishers.get(key[0], ())
            if case.was_listed and case.is_leaving and not is_listed:
                del self._cases[key]
            case.is_leaving = not is_listed
            case.was_listed = case.was_listed or is_listed

    def _facts(self) -> Facts:
        now = time.monotonic()
        if now >= self._facts_at.at + FACTS_EVERY_S:
            self._facts_at = _FactsAt(self._read(), now)
        return self._facts_at.facts

    def _reconcile(self, case: _Case, decision: Decision) -> None:
        """Put a decision in force, remember it and tell the log what is new."""
        is_new = case.logged_at == 0 or _differs(decision.verdict, case.verdict)
        case.verdict = decision.verdict
        self._folder.note(decision)
        is_due = time.monotonic() >= case.logged_at + REMIND_EVERY_S
        if is_new or is_due:
            _tell(case)
            case.logged_at = time.monotonic()


def _may_be_half_written(before: Verdict, decision: Decision) -> bool:
    """Whether a licence that served is gone or unreadable: it may be being replaced just now."""
    return before.serves and not decision.verdict.serves and decision.licence is None


def _differs(one: Verdict, other: Verdict) -> bool:
    return (one.state, one.detail, one.serial) != (other.state, other.detail, other.serial)


def _tell(case: _Case) -> None:
    verdict = case.verdict
    fields = {
        "deploy_name": case.name,
        "licence": verdict.serial,
        "state": verdict.state,
        "days_left": verdict.days_left,
        "facts": verdict.matches,
        "detail": verdict.detail,
        "advice": verdict.advice,
    }
    if not verdict.serves:
        _log.error("licence of %s: refused", case.name, extra={"fields": fields})
    elif verdict.is_warning:
        advice = verdict.advice or f"ask {case.spec.publisher} to renew it"
        _log.warning("licence of %s", case.name, extra={"fields": fields | {"advice": advice}})
    else:
        _log.info("licence of %s: valid", case.name, extra={"fields": fields})
