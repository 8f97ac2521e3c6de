"""Which of the licences that lie here speaks for a deploy name."""

import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag

from app.errors import LicenceError, LockedPackage
from app.licence.clock import ClockRecord
from app.licence.facts import Facts
from app.licence.keys import clock_key, is_hidden, read_machine_key, unwrap_key
from app.licence.licence import LICENCE_SUFFIX, DeviceClass, Licence, read_licence
from app.licence.verdict import ASK_AGAIN, Machine, Verdict, is_partial, judge
from app.packages.manifest import LicenceSpec
from app.packages.sealing import decode_base64_strictly

AS_SERVICE = "use the service's account or root, or give the state folder to this account"


@dataclass(frozen=True)
class Decision:
    """A verdict and the licence that it is about, None when there is none to speak of."""

    verdict: Verdict
    licence: Licence | None = None


class LicenceFolder:
    """The licences that lie in one folder, held against this machine.

    Args:
        licence_dir: the folder, whose files end with ``.licence``.
        state_dir: the folder of the machine's key and the clock record.
        device: what the models run on.
        cards: UUIDs of the cards that they run on.
    """

    def __init__(
        self, licence_dir: Path, state_dir: Path, device: DeviceClass, cards: tuple[str, ...]
    ) -> None:
        self.licence_dir = licence_dir
        self.state_dir = state_dir
        self._device: DeviceClass = device
        self._cards = cards

    def best(self, deploy_name: str, spec: LicenceSpec, facts: Facts) -> Decision:
        """Find the best licence for a deploy name: one that serves, and lasts longest.

        Args:
            deploy_name: of the package.
            spec: its manifest's licence block.
            facts: this machine's.
        """
        try:
            key = read_machine_key(self.state_dir)
        except LicenceError as exc:
            if is_hidden(self.state_dir):
                return Decision(Verdict("refused", "the machine key cannot be read", AS_SERVICE))
            advice = f"{exc}; {ASK_AGAIN}"
            return Decision(Verdict("refused", "this server has no machine key", advice))
        clock = ClockRecord(self.state_dir, clock_key(key))
        machine = Machine(self._device, self._cards, facts, key.public_key().public_bytes_raw())
        now = int(time.time())
        decisions = (
            _decide_file(path, deploy_name, spec, machine, clock, now)
            for path in sorted(self.licence_dir.glob(f"*{LICENCE_SUFFIX}"))
        )
        apt = [decision for decision in decisions if decision is not None]
        return max(apt, key=_rank, default=self._without_licence(spec))

    def content_key(self, decision: Decision, deploy_name: str) -> bytes:
        """Open the key of a sealed package with a licence that serves.

        Raises:
            LockedPackage: the licence holds no key for it that this machine can open.
        """
        licence = decision.licence
        assert licence is not None  # noqa: S101 - a verdict that serves is about a licence
        try:
            machine = read_machine_key(self.state_dir)
            return unwrap_key(
                licence.wrapped_keys[deploy_name], machine, licence.serial, deploy_name
            )
        except (LicenceError, KeyError, InvalidTag) as exc:
            raise LockedPackage(deploy_name, "licence", "the licence holds no key for it") from exc

    def note(self, decision: Decision) -> None:
        """Remember when a licence was judged, for the next time."""
        licence = decision.licence
        if licence is not None and decision.verdict.serves:
            clock = ClockRecord(self.state_dir, clock_key(read_machine_key(self.state_dir)))
            partial = is_partial(licence, decision.verdict)
            clock.remember(licence.serial, int(time.time()), partial, licence.issued)

    def _without_licence(self, spec: LicenceSpec) -> Decision:
        advice = f"{ASK_AGAIN}, {spec.publisher}; put the answer into {self.licence_dir}"
        return Decision(Verdict("refused", "there is no licence for this deploy name", advice))


def _decide_file(
    path: Path,
    deploy_name: str,
    spec: LicenceSpec,
    machine: Machine,
    clock: ClockRecord,
    now: int,
) -> Decision | None:
    """Judge one file; None when it is another publisher's, for other deploy names."""
    try:
        licence = read_licence(path)
    except LicenceError as exc:
        detail = "the licence file is unreadable or was changed"
        return Decision(Verdict("refused", detail, str(exc)))
    if licence.publisher_key != decode_base64_strictly(spec.publisher_key, 32):
        if deploy_name not in licence.deploy_names:
            return None
        return Decision(
            Verdict(
                "refused",
                "the licence is signed by another key than the package's publisher's",
                f"{path}: ask {spec.publisher} for a licence for {deploy_name}",
            )
        )
    entry = clock.recall(licence.serial, licence.issued, now)
    return Decision(judge(licence, deploy_name, machine, entry, now), licence)


def _rank(decision: Decision) -> tuple[int, float]:
    """What serves before what does not, what lasts before what ends, the apt before the odd."""
    verdict, licence = decision.verdict, decision.licence
    if licence is None:
        return (0, 0.0)
    if not verdict.serves:
        return (1, float(licence.issued))
    order = {"grace": 2, "valid": 3}[verdict.state]
    return (order, float("inf") if licence.expires is None else float(licence.expires))
