"""Checks whether a licence lets this machine serve a deploy name, and if not, why."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from app.licence.clock import ClockEntry
from app.licence.facts import Facts
from app.licence.fingerprint import hash_fact
from app.licence.licence import DeviceClass, Licence, to_time
from app.reporting.counts import pluralise

DAY_S = 86_400
WARN_DAYS = 30

CLOCK_TOLERANCE_S = 300
"""A time correction steps back by seconds, a dead battery by years."""

ASK_AGAIN = "run classifyd licence fingerprint here and send its file to the publisher"


@dataclass(frozen=True)
class Machine:
    """The machine that a licence is checked against.

    Attributes:
        device: what the models run on.
        cards: UUIDs of the GPUs that they run on; one for a worker.
        facts: from read_facts.
        public_key: the machine's raw public key.
    """

    device: DeviceClass
    cards: tuple[str, ...]
    facts: Facts
    public_key: bytes


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Attributes:
        state: ``valid``, ``grace`` (valid, but the machine matches only in part) or
            ``refused``.
        detail: what is wrong, in ASCII, for clients too; empty if nothing is.
        advice: what to do about it, for the operator.
        days_left: days until the end, rounded up; None for a permanent licence.
        serial: of the licence; empty without one.
        matches: for each fact ``matched``, ``changed`` or ``unreadable``.
    """

    state: Literal["valid", "grace", "refused"]
    detail: str = ""
    advice: str = ""
    days_left: int | None = None
    serial: str = ""
    matches: dict[str, str] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        """Whether requests are answered."""
        return self.state != "refused"

    @property
    def is_warning(self) -> bool:
        """Whether the operator should act, although requests are answered."""
        ends_soon = self.days_left is not None and self.days_left <= WARN_DAYS
        return self.state == "grace" or ends_soon


def judge(
    licence: Licence, deploy_name: str, machine: Machine, entry: ClockEntry, now: int
) -> Verdict:
    """Check a licence with a valid signature against a machine.

    Args:
        licence: of the package's publisher.
        deploy_name: of the package to serve.
        machine: this machine.
        entry: the clock record of this licence.
        now: Unix seconds.
    """
    matches = match_facts(licence, machine.facts)
    reasons = (
        *_wrong_scope(licence, deploy_name, machine),
        *_wrong_machine(licence, machine, matches),
        *_wrong_time(licence, entry, now),
    )
    grace_left_s = _grace_left_s(licence, matches, entry, now)
    if not reasons and grace_left_s is not None and grace_left_s <= 0:
        reasons = (("the days of grace for a changed machine are over", ASK_AGAIN),)
    if reasons:
        detail, advice = reasons[0]
        return Verdict("refused", detail, advice, None, licence.serial, matches)
    left_s = None if licence.expires is None else licence.expires - now
    ends = [s for s in (left_s, grace_left_s) if s is not None]
    days_left = math.ceil(min(ends) / DAY_S) if ends else None
    if grace_left_s is None:
        return Verdict("valid", "", "", days_left, licence.serial, matches)
    days = "1 more day" if days_left == 1 else f"{days_left} more days"
    detail = f"the machine has changed, it is served for {days}"
    return Verdict("grace", detail, ASK_AGAIN, days_left, licence.serial, matches)


def match_facts(licence: Licence, facts: Facts) -> dict[str, str]:
    """Compare each fact of a licence with this machine's."""
    matches: dict[str, str] = {}
    for kind, hashes in licence.facts.items():
        values = facts.get(kind, ())
        is_there = any(hash_fact(licence.salt, kind, value) in hashes for value in values)
        matches[kind] = "matched" if is_there else "changed" if values else "unreadable"
    return matches


_Reasons = Iterator[tuple[str, str]]


def _wrong_scope(licence: Licence, deploy_name: str, machine: Machine) -> _Reasons:
    if deploy_name not in licence.deploy_names:
        yield "the licence is for another deploy name", "ask the publisher to add this name"
    if licence.device != machine.device:
        yield (
            f"the licence is for a {licence.device}, this server runs on a {machine.device}",
            f"set device = {'cuda' if licence.device == 'gpu' else 'cpu'}, "
            "or ask the publisher for a licence for this device",
        )
    elif licence.device == "gpu" and not any(
        hash_fact(licence.salt, "gpu", uuid) == licence.card for uuid in machine.cards
    ):
        yield (
            "the licence is for another GPU",
            f"set device = cuda:N to the licensed GPU, or {ASK_AGAIN}",
        )


def _wrong_machine(licence: Licence, machine: Machine, matches: dict[str, str]) -> _Reasons:
    count = _count_matched(matches)
    if count < licence.tolerance.partial:
        yield (
            f"the licence is for another machine: {count} of "
            f"{pluralise(len(matches), 'fact')} match, at least {licence.tolerance.partial} must",
            ASK_AGAIN,
        )
    if machine.public_key != licence.machine_key:
        yield "the licence is for another machine key than the state folder's", ASK_AGAIN


def _wrong_time(licence: Licence, entry: ClockEntry, now: int) -> _Reasons:
    if now < entry.seen - CLOCK_TOLERANCE_S:
        yield (
            f"the clock was set back: it says {to_time(now)}, the last time seen is "
            f"{to_time(entry.seen)}",
            "set the clock; if it was wrongly ahead before, ask the publisher for a new licence",
        )
    if now < licence.not_before:
        yield (
            f"the licence is not yet valid: it starts on {to_time(licence.not_before)}",
            "wait, or check this machine's clock",
        )
    if licence.expires is not None and now >= licence.expires:
        yield (
            f"the licence expired on {to_time(licence.expires)}",
            "ask the publisher to renew it; the fingerprint they have is still good",
        )


def _grace_left_s(
    licence: Licence, matches: dict[str, str], entry: ClockEntry, now: int
) -> int | None:
    """Seconds of grace that remain; None if enough facts match."""
    if _count_matched(matches) >= licence.tolerance.required:
        return None
    since = now if entry.partial_since is None else entry.partial_since
    return since + licence.tolerance.grace_days * DAY_S - now


def _count_matched(matches: dict[str, str]) -> int:
    return list(matches.values()).count("matched")
