"""What costly requests leave of the throughput to ordinary callers.

    python -m benchmarks.costly_requests
    python -m benchmarks.costly_requests --before ../classifyd-before --cases scans batch

In each round and for each case eight ordinary callers, who send a photo of 140 kB, are alone,
and then eight clients send the costly request beside them, each one after the other. *Share* is
the ordinary callers' throughput beside them ÷ that alone; the aim is 0.5. *Costly/s* counts the
answers to the others. With ``--before`` a second server, that of the other checkout, takes the
same turns, so that both share the minute.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.clients import good_callers, in_background
from benchmarks.costly_files import CASES, Case
from benchmarks.server import Server
from benchmarks.support import (
    ClosedLoop,
    LoadResult,
    Target,
    codes,
    make_parser,
    percentile,
    photo_body,
    publish,
    run_load,
    show_status,
    table,
)

MIN_SHARE = 0.5
WARM_UP_S = 2
SETTLE_S = 2
"""From the first costly request to the first measured one."""


@dataclass(frozen=True)
class Turn:
    """One case on one server.

    Attributes:
        alone: results/s of the ordinary callers before.
        beside: results/s of theirs beside the costly clients.
        p99_ms: of the latter.
        others: answers to ordinary callers that are no result, by error_code.
        costly: answers/s to the costly clients, results or not.
        costly_others: those that are no result, by error_code.
    """

    alone: float
    beside: float
    p99_ms: float
    others: str
    costly: float
    costly_others: str

    @property
    def share(self) -> float:
        """What is left of the throughput."""
        return self.beside / self.alone if self.alone else 0.0


def take_turn(server: Server, case: Case, body: bytes, options: argparse.Namespace) -> Turn:
    """Measure the ordinary callers alone, and beside the clients of a case."""
    good_callers(server, photo_body(), WARM_UP_S)
    alone = good_callers(server, photo_body(), options.seconds)
    target = dataclasses.replace(server.target(body), path=case.path)
    if options.new_connections:
        # The load generator opens a new connection after an answer with this header.
        target = dataclasses.replace(target, content_type="text/plain\r\nConnection: close")
    seconds = SETTLE_S + options.seconds
    with in_background(_send, target, options.clients, seconds) as results:
        time.sleep(SETTLE_S)
        beside = good_callers(server, photo_body(), options.seconds)
    costly: LoadResult = results[0]
    return Turn(
        alone.throughput(),
        beside.throughput(),
        percentile(beside.answered(), 0.99),
        codes(beside),
        sum(map(len, costly.latencies_ms.values())) / costly.duration_s,
        codes(costly),
    )


def _send(pipe: Connection, target: Target, clients: int, seconds: float) -> None:
    pipe.send("ready")
    result = run_load(target, ClosedLoop(clients), seconds)
    pipe.recv()
    pipe.send([result])


def row(name: str, case: Case, body: bytes, turns: list[Turn]) -> list[str]:
    """The row of a case on a server: medians of its rounds."""
    return [
        name,
        case.name,
        f"{len(body) / 1000:.0f}",
        f"{statistics.median(turn.alone for turn in turns):.1f}",
        f"{statistics.median(turn.beside for turn in turns):.1f}",
        f"{statistics.median(turn.share for turn in turns):.2f}",
        f"{statistics.median(turn.p99_ms for turn in turns):.0f}",
        f"{statistics.median(turn.costly for turn in turns):.1f}",
        "; ".join(filter(None, (turn.others for turn in turns))) or "none",
        "; ".join(filter(None, (turn.costly_others for turn in turns))) or "none",
    ]


HEAD = (
    *("server", "case", "body kB", "alone/s", "beside/s", "share", "p99 ms", "costly/s"),
    *("other answers", "costly clients' other answers"),
)


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "costly_requests")
    keys = [case.key for case in CASES]
    parser.add_argument("--before", type=Path, help="checkout of another version")
    parser.add_argument("--cases", nargs="+", choices=keys, default=keys, metavar="CASE")
    parser.add_argument("--clients", type=int, default=8, help="that send the costly request")
    parser.add_argument("--new-connections", action="store_true", help="one for each of these")
    parser.add_argument("--seconds", type=float, default=6, help="of each load")
    parser.add_argument("--rounds", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Measure every case and print a row for each."""
    options = _options()
    chosen = [(case, case.make_body()) for case in CASES if case.key in options.cases]
    turns: dict[tuple[str, str], list[Turn]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = {"after": Server(Path(folder) / "after", settings=options.setting)}
        if options.before:
            before = Server(Path(folder) / "before", options.before.resolve())
            servers = {"before": before, **servers}
        show_status("choosing the engine")
        for server in servers.values():
            server.tune()
        for number in range(options.rounds):
            for case, body in chosen:
                for name, server in servers.items():
                    show_status(f"round {number + 1} of {options.rounds}: {case.name}, {name}")
                    with server.running():  # a new one: an old one may have work left
                        found = take_turn(server, case, body, options)
                    turns.setdefault((name, case.key), []).append(found)
    rows = [row(n, case, body, turns[n, case.key]) for case, body in chosen for n in servers]
    figures = {f"{n} {key}": list(map(dataclasses.asdict, ts)) for (n, key), ts in turns.items()}
    title = f"{options.clients} costly clients; loads of {options.seconds:g} s."
    publish(options, f"{title}\n\n{table(HEAD, rows)}", {"cases": figures})


if __name__ == "__main__":
    main()
