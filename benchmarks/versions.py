"""This version against the one before: throughput, latency, processor time, memory, recovery.

    python -m benchmarks.versions --before ../classifyd-before --rounds 10

Both servers run at once and take turns: in each round, for each number of connections, one is
loaded and then the other; which one is first alternates. Both serve the demo model with the
engine that their own ``classifyd tune`` chose, which is repeated until both choose the same. The
body has 140 kB.

*After ÷ before* is the ratio of the medians; *per round* is the median of the ratios of the two
turns of a round, with its quartiles. CPU ms is the processor time of the master and its workers in
a turn ÷ results.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.server import Server
from benchmarks.support import (
    PATH,
    ClosedLoop,
    allow_many_files,
    codes,
    make_parser,
    median_ratio,
    percentile,
    photo_body,
    pluralise,
    publish,
    run_load,
    show_status,
    table,
)

LEVELS = (1, 2, 8, 64)
NAMES = ("before", "after")
WARM_UP_S = 3
PAUSE_S = 0.5
"""Between two turns: a server goes on with requests whose caller has left."""

TUNE_TRIES = 5
RECOVERY_TIMEOUT_S = 120
CALM_S = 3
"""From the first answer of a new worker to the next kill."""


@dataclass(frozen=True)
class Turn:
    """One load on one server.

    Attributes:
        rate: results/s.
        p50_ms: median latency of the results.
        p99_ms: their 99th percentile.
        cpu_ms: processor time of the server for one result.
        others: answers that are no result, by error_code.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    others: str


Turns = dict[tuple[str, int], list[Turn]]


def tune_alike(servers: dict[str, Server]) -> dict[str, list[str]]:
    """Choose the engines, again where noise made the two servers choose differently.

    Returns:
        What was chosen, as ``classifyd tune`` prints it.
    """
    for number in range(TUNE_TRIES):
        show_status(f"choosing the engines, try {number + 1} of at most {TUNE_TRIES}")
        chosen = {name: server.tune() for name, server in servers.items()}
        if _are_alike(chosen):
            break
    return chosen


def _are_alike(chosen: dict[str, list[str]]) -> bool:
    """Compare engine, precision, batch, and whether uncontended requests have their own."""
    return len({(*lines[0].split()[:3], len(lines)) for lines in chosen.values()}) == 1


def take_turn(server: Server, connections: int, seconds: float) -> Turn:
    """Load a server with a number of requests in flight."""
    target, cpu_s = server.target(photo_body()), server.cpu_s()
    result = run_load(target, ClosedLoop(connections), seconds)
    cpu_s = server.cpu_s() - cpu_s
    time.sleep(PAUSE_S)
    times = result.answered()
    return Turn(
        result.throughput(),
        percentile(times, 0.5),
        percentile(times, 0.99),
        cpu_s * 1000 / max(result.results_in_time, 1),
        codes(result),
    )


def compare(servers: dict[str, Server], options: argparse.Namespace) -> Turns:
    """Let the servers take turns."""
    turns: Turns = {(name, level): [] for name in servers for level in options.connections}
    for number in range(options.rounds):
        order = NAMES if number % 2 == 0 else NAMES[::-1]
        for level in options.connections:
            for name in order:
                show_status(
                    f"round {number + 1} of {options.rounds}: "
                    f"{pluralise(level, 'connection')}, {name}"
                )
                turns[name, level].append(take_turn(servers[name], level, options.seconds))
    return turns


def recovery_s(server: Server, body: bytes) -> float:
    """Kill every worker with SIGKILL; seconds until a request is answered with a result."""
    started = time.perf_counter()
    for worker in server.workers():
        worker.kill()
    while (took_s := time.perf_counter() - started) < RECOVERY_TIMEOUT_S:
        try:
            _, answer = server.ask("POST", PATH, body, RECOVERY_TIMEOUT_S - took_s)
        except (OSError, HTTPException):
            time.sleep(0.01)
            continue
        if b'"results"' in answer:
            return time.perf_counter() - started
    raise SystemExit(f"no good answer {RECOVERY_TIMEOUT_S} s after kill -9")


def recoveries(servers: dict[str, Server], tries: int) -> dict[str, list[float]]:
    """Kill the workers of each server in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    for number in range(tries):
        for name, server in servers.items():
            show_status(f"kill -9, try {number + 1} of {tries}: {name}")
            seconds[name].append(recovery_s(server, photo_body()))
            time.sleep(CALM_S)
    return seconds


def _throughput_row(turns: Turns, level: int) -> list[str]:
    before, after = ([turn.rate for turn in turns[name, level]] for name in NAMES)
    medians = statistics.median(before), statistics.median(after)
    ratios = sorted(b / a if a else 0.0 for a, b in zip(before, after, strict=True))
    quartiles = f"{percentile(ratios, 0.25):.3f} to {percentile(ratios, 0.75):.3f}"
    others = [turn.others for name in NAMES for turn in turns[name, level] if turn.others]
    return [
        str(level),
        *(f"{rate:.1f}" for rate in medians),
        f"{medians[1] / max(medians[0], 1e-9):.3f}",
        f"{median_ratio(after, before):.3f} ({quartiles})",
        "; ".join(others) or "none",
    ]


def _cost_row(turns: Turns, level: int) -> list[str]:
    cells = [str(level)]
    for attribute in ("p50_ms", "p99_ms", "cpu_ms"):
        for name in NAMES:
            values = [getattr(turn, attribute) for turn in turns[name, level]]
            cells.append(f"{statistics.median(values):.1f}")
    cells += [f"{_tail(turns[name, level]):.2f}" for name in NAMES]
    return cells


def _tail(turns: list[Turn]) -> float:
    return statistics.median(turn.p99_ms / max(turn.p50_ms, 1e-9) for turn in turns)


def _report(turns: Turns, figures: dict[str, Any], options: argparse.Namespace) -> str:
    memory, seconds, engines = figures["memory_mb"], figures["recovery_s"], figures["engines"]
    costs = [f"{what} {name}" for what in ("p50 ms", "p99 ms", "CPU ms") for name in NAMES]
    lines = [
        f"Medians of {pluralise(options.rounds, 'round')} with turns of {options.seconds:g} s.",
        *(f"{name}: {'; '.join(engines[name])}" for name in NAMES),
        *([] if _are_alike(engines) else ["The engines differ: repeat this on a quiet machine."]),
        "",
        table(
            ("connections", "before/s", "after/s", "after ÷ before", "per round", "other answers"),
            [_throughput_row(turns, level) for level in options.connections],
        ),
        "",
        table(
            ("connections", *costs, *(f"p99 ÷ p50 {name}" for name in NAMES)),
            [_cost_row(turns, level) for level in options.connections],
        ),
        "",
        table(
            ("", *NAMES),
            [
                ("resident MB of the workers at the end", *(f"{memory[n]:.0f}" for n in NAMES)),
                ("kill -9 to the next result, s", *(_describe(seconds[n]) for n in NAMES)),
            ],
        ),
    ]
    return "\n".join(lines)


def _describe(seconds: list[float]) -> str:
    if not seconds:
        return "not measured"
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "versions")
    parser.add_argument("--before", type=Path, required=True, help="checkout of the other version")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4, help="of each turn")
    parser.add_argument("--connections", type=int, nargs="+", default=list(LEVELS))
    parser.add_argument("--kills", type=int, default=5, help="how often the workers are killed")
    return parser.parse_args()


def main() -> None:
    """Measure both and print the tables."""
    options = _options()
    allow_many_files()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {
            "before": Server(Path(folder) / "before", options.before.resolve()),
            "after": Server(Path(folder) / "after", settings=options.setting),
        }
        figures: dict[str, Any] = {"engines": tune_alike(servers)}
        for server in servers.values():
            stack.enter_context(server.running())
            run_load(server.target(photo_body()), ClosedLoop(8), WARM_UP_S)
        turns = compare(servers, options)
        figures["memory_mb"] = {name: server.resident_mb() for name, server in servers.items()}
        figures["recovery_s"] = recoveries(servers, options.kills)
    text = _report(turns, figures, options)
    figures["turns"] = {
        name: {level: [dataclasses.asdict(t) for t in turns[name, level]] for level in levels}
        for name in NAMES
        for levels in [options.connections]
    }
    publish(options, text, figures)


if __name__ == "__main__":
    main()
