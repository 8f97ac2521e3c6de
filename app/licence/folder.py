"""Finds the licence that applies to a deploy name."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag

from app.errors import LicenceError, LockedPackage
from app.licence.clock import ClockRecord
from app.licence.facts import Facts
from app.licence.keys import clock_key, read_machine_key, unwrap_key
from app.licence.licence import LICENCE_SUFFIX, DeviceClass, Licence, read_licence
from app.licence.verdict import ASK_AGAIN, Machine, Verdict, judge
from app.packages.manifest import LicenceSpec
from app.packages.sealing import decode_base64_strictly
from app.system.files import is_foreign

_log = logging.getLogger(__name__)

AS_SERVICE = "use the service's account or root, or give the state folder to this account"


@dataclass(frozen=True)
class Decision:
    """A verdict and the licence that it is about, None if there is no readable one."""

    verdict: Verdict
    licence: Licence | None = None


class LicenceFolder:
    """The licences in one folder, checked against this machine.

    Args:
        licence_dir: the folder, whose files end with ``.licence``.
        state_dir: the folder of the machine's key and the clock record.
        device: what the models run on.
        cards: UUIDs of the GPUs that they run on.
    """

    def __init__(
        self, licence_dir: Path, state_dir: Path, device: DeviceClass, cards: tuple[str, ...]
    ) -> None:
        self.licence_dir = licence_dir
        self.state_dir = state_dir
        self._device: DeviceClass = device
        self._cards = cards
        self._logged: str | None = ""

    def best(self, deploy_name: str, spec: LicenceSpec, facts: Facts) -> Decision:
        """Find the licence that serves a deploy name longest, or the reason why none does.

        Args:
            deploy_name: of the package.
            spec: its manifest's licence block.
            facts: this machine's.
        """
        try:
            key = read_machine_key(self.state_dir)
        except LicenceError as exc:
            if isinstance(exc.__cause__, PermissionError):
                return _refused("the machine key cannot be read", AS_SERVICE)
            return _refused("this server has no machine key", f"{exc}; {ASK_AGAIN}")
        clock = ClockRecord(self.state_dir, clock_key(key))
        machine = Machine(self._device, self._cards, facts, key.public_key().public_bytes_raw())
        decisions = (
            _decide_file(path, deploy_name, spec, machine, clock)
            for path in sorted(self.licence_dir.glob(f"*{LICENCE_SUFFIX}"))
            if not is_foreign(path.name)
        )
        advice = f"{ASK_AGAIN}, {spec.publisher}; put the answer into {self.licence_dir}"
        default = _refused("there is no licence for this deploy name", advice)
        return max(filter(None, decisions), key=_rank, default=default)

    def content_key(self, decision: Decision, deploy_name: str) -> bytes:
        """Decrypt the key of a sealed package with a licence that serves.

        Raises:
            LockedPackage: the licence holds no key for it that this machine can decrypt.
        """
        licence = decision.licence
        assert licence is not None  # noqa: S101 - a verdict that serves is about a licence
        try:
            machine = read_machine_key(self.state_dir)
            wrapped = licence.wrapped_keys[deploy_name]
            return unwrap_key(wrapped, machine, licence.serial, deploy_name)
        except (LicenceError, KeyError, InvalidTag) as exc:
            raise LockedPackage(
                deploy_name, "the licence holds no key for it", field="licence"
            ) from exc

    def note(self, decision: Decision) -> None:
        """Record the time of a check, so that a clock set back is noticed.

        A failure is logged, once while it lasts.
        """
        licence, verdict = decision.licence, decision.verdict
        if licence is None or not verdict.serves:
            return
        try:
            clock = ClockRecord(self.state_dir, clock_key(read_machine_key(self.state_dir)))
            is_partial = verdict.state == "grace"
            clock.remember(licence.serial, int(time.time()), is_partial, licence.issued)
        except (OSError, LicenceError) as exc:
            problem = exc.strerror if isinstance(exc, OSError) else str(exc)
            if problem != self._logged:
                _log.warning(
                    "the clock record in %s cannot be written: %s", self.state_dir, problem
                )
            self._logged = problem
        else:
            self._logged = ""


def _decide_file(
    path: Path, deploy_name: str, spec: LicenceSpec, machine: Machine, clock: ClockRecord
) -> Decision | None:
    """Check one file; None if it is another publisher's, for other deploy names."""
    try:
        licence = read_licence(path)
    except LicenceError as exc:
        return _refused("the licence file is unreadable or was changed", str(exc))
    if licence.publisher_key != decode_base64_strictly(spec.publisher_key, 32):
        if deploy_name not in licence.deploy_names:
            return None
        return _refused(
            "the licence is signed by another key than the package's publisher's",
            f"{path}: ask {spec.publisher} for a licence for {deploy_name}",
        )
    now = int(time.time())
    entry = clock.recall(licence.serial, licence.issued, now)
    return Decision(judge(licence, deploy_name, machine, entry, now), licence)


def _refused(detail: str, advice: str) -> Decision:
    return Decision(Verdict("refused", detail, advice))


def _rank(decision: Decision) -> tuple[int, float]:
    """Rank serving licences highest, by their end, and unreadable ones lowest."""
    verdict, licence = decision.verdict, decision.licence
    if licence is None:
        return (0, 0.0)
    if not verdict.serves:
        return (1, float(licence.issued))
    order = {"grace": 2, "valid": 3}[verdict.state]
    return (order, float("inf") if licence.expires is None else float(licence.expires))
