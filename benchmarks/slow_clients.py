"""What good callers and health checks notice of clients that hold connections.

    python -m benchmarks.slow_clients
    python -m benchmarks.slow_clients --tls --attacks heads=1000 silent

Each attack meets a fresh server. Eight good callers send one request after the other, on new
connections, before the attack, during it and after it; GET /healthz is sent once a second during
it and after it, from a process of its own. A connection that the server closes is opened again
after a second. *Share* is the throughput of the good callers ÷ that before the attack; *in time*
is how many health checks were answered within a second (5 s stand for no answer).
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.attackers import ATTACKS, FLOODS, MIN_SHARE, Attack, Counts, attackers, tls_attacks
from benchmarks.clients import HealthSummary, good_callers, health_checks, summarize
from benchmarks.server import Server, make_certificate
from benchmarks.support import (
    NO_ANSWER,
    PROJECT_ROOT,
    LoadResult,
    allow_many_files,
    codes,
    make_parser,
    photo_body,
    publish,
    show_status,
    table,
)

WARM_UP_S = 2
SETTLE_S = 2
"""From the last connection of an attack to the first measured request."""

HEAD = (
    *("attack", "clients", "share during", "share after", "in time during", "slowest during"),
    *("in time after", "slowest after", "opened", "peak MB", "log MB", "other answers", "kept"),
)


@dataclass(frozen=True)
class Outcome:
    """One attack in one round.

    Attributes:
        rates: results/s of the good callers before, during and after.
        during: health checks while the attackers are there.
        after: health checks once they are gone.
        counts: of the attackers' connections.
        peak_mb: the highest resident memory of a worker.
        log_mb: how much the log grew during the attack.
        others: answers to good callers that are no result, by error_code.
        unanswered: requests of good callers without an answer, during and after.
        tracebacks: in the log.
        replaced: how many workers are others than before.
    """

    rates: tuple[float, float, float]
    during: HealthSummary
    after: HealthSummary
    counts: Counts
    peak_mb: float
    log_mb: float
    others: str
    unanswered: int
    tracebacks: int
    replaced: int

    def share(self, index: int) -> float:
        """Throughput during (1) or after (2) the attack ÷ that before."""
        return self.rates[index] / self.rates[0] if self.rates[0] else 0.0


def measure(
    server: Server, attack: AbstractContextManager[list[Counts]], seconds: float
) -> Outcome:
    """Measure good callers and health checks before, during and after an attack.

    Args:
        server: has just started.
        attack: lasts for the block, and counts its connections, if any, after it.
        seconds: of each of the three loads.
    """
    body = photo_body()
    good_callers(server, body, WARM_UP_S)
    pids = server.worker_pids()
    before = good_callers(server, body, seconds)
    log_bytes = server.log_bytes()
    with health_checks(server) as checks:
        begin = time.perf_counter()
        with attack as counts:
            time.sleep(SETTLE_S)
            during = good_callers(server, body, seconds)
            middle = time.perf_counter()
        log_bytes = server.log_bytes() - log_bytes
        left = time.perf_counter()
        time.sleep(SETTLE_S)
        after = good_callers(server, body, seconds)
        end = time.perf_counter()
    return Outcome(
        (before.throughput(), during.throughput(), after.throughput()),
        summarize(checks, begin, middle),
        summarize(checks, left, end),
        counts[0] if counts else Counts(),
        server.peak_mb(),
        log_bytes / 1e6,
        _others(during, after),
        sum(len(load.latencies_ms.get(NO_ANSWER, ())) for load in (during, after)),
        server.log_text().count("Traceback"),
        len(pids - server.worker_pids()),
    )


def _others(during: LoadResult, after: LoadResult) -> str:
    told = {"during": codes(during), "after": codes(after)}
    return "; ".join(f"{when} {text}" for when, text in told.items() if text)


def is_kept(attack: Attack, outcomes: list[Outcome]) -> bool:
    """Whether good callers kept enough throughput and all health checks were in time."""
    checks = [check for one in outcomes for check in (one.during, one.after)]
    shares = [statistics.median(one.share(index) for one in outcomes) for index in (1, 2)]
    is_healthy = all(check.in_time == check.total for check in checks)
    return is_healthy and shares[0] >= attack.min_share and shares[1] >= MIN_SHARE


def row(attack: Attack, outcomes: list[Outcome]) -> list[str]:
    """The row of an attack: medians of its rounds, sums of its health checks."""

    def total(checks: list[HealthSummary]) -> tuple[str, str]:
        slowest_s = max(check.slowest_s for check in checks)
        in_time = sum(check.in_time for check in checks)
        return HealthSummary(in_time, sum(check.total for check in checks), slowest_s).cells()

    counts = [one.counts for one in outcomes]
    return [
        attack.name,
        str(attack.clients),
        *(f"{statistics.median(one.share(index) for one in outcomes):.2f}" for index in (1, 2)),
        *total([one.during for one in outcomes]),
        *total([one.after for one in outcomes]),
        f"{max(count.opened for count in counts)}",
        f"{max(one.peak_mb for one in outcomes):.0f}",
        f"{max(one.log_mb for one in outcomes):.2f}",
        "; ".join(filter(None, (one.others for one in outcomes))) or "none",
        "yes" if is_kept(attack, outcomes) else "no",
    ]


def run(options: argparse.Namespace, attacks: list[Attack]) -> dict[str, list[Outcome]]:
    """Run every attack in every round, each with a fresh server."""
    outcomes: dict[str, list[Outcome]] = {attack.key: [] for attack in attacks}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        certificate = make_certificate(state) if options.tls else None
        server = Server(state, options.checkout, (), certificate, options.setting)
        show_status("choosing the engine")
        server.tune()
        for number in range(options.rounds):
            for attack in attacks:
                show_status(f"round {number + 1} of {options.rounds}: {attack.name}")
                with server.running():
                    crowd = attackers(attack, server)
                    outcomes[attack.key].append(measure(server, crowd, options.seconds))
    return outcomes


def choose(named: list[str], known: tuple[Attack, ...]) -> list[Attack]:
    """The attacks by name, with their number of clients where ``NAME=COUNT`` gives it."""
    by_key = {attack.key: attack for attack in known}
    chosen = []
    for text in named or by_key:
        key, _, count = text.partition("=")
        if key not in by_key or (count and not count.isdigit()):
            raise SystemExit(
                f"--attacks {text}: expected NAME or NAME=COUNT of {', '.join(by_key)}"
            )
        chosen.append(
            dataclasses.replace(by_key[key], clients=int(count)) if count else by_key[key]
        )
    return chosen


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "slow_clients")
    known = (*ATTACKS, *FLOODS, *tls_attacks())
    names = ", ".join(f"{attack.key} ({attack.clients})" for attack in known)
    parser.add_argument("--attacks", nargs="+", default=[], metavar="NAME[=COUNT]", help=names)
    parser.add_argument("--tls", action="store_true", help="all of it over TLS, with its attacks")
    parser.add_argument("--seconds", type=float, default=8, help="of each of the three loads")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--checkout", type=Path, default=PROJECT_ROOT, help="whose server")
    return parser.parse_args()


def main() -> None:
    """Run the attacks and print a row for each."""
    options = _options()
    allow_many_files()
    known = (*ATTACKS, *FLOODS, *(tls_attacks() if options.tls else ()))
    attacks = choose(options.attacks, known)
    outcomes = run(options, attacks)
    figures: dict[str, Any] = {
        attack.key: {
            "attack": attack.name,
            "clients": attack.clients,
            "kept": is_kept(attack, outcomes[attack.key]),
            "rounds": [dataclasses.asdict(one) for one in outcomes[attack.key]],
        }
        for attack in attacks
    }
    rows = [row(attack, outcomes[attack.key]) for attack in attacks]
    rate = statistics.median(one.rates[0] for found in outcomes.values() for one in found)
    text = f"{rate:.1f} results/s before the attacks (median); loads of {options.seconds:g} s."
    publish(options, f"{text}\n\n{table(HEAD, rows)}", {"tls": options.tls, "attacks": figures})


if __name__ == "__main__":
    main()
