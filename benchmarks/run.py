"""``make bench``: the raw loop, classifyd and its peers, in one run on this machine.

Every server gets the same body from the same load generator. The servers take turns, round
after round, and the median of the rounds counts; one server runs at a time.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.packages.store import active_version
from benchmarks.peer_servers import OURS, PEERS, Peer, require_same_class, running
from benchmarks.server import HOST, clean_environment, settings_environment
from benchmarks.support import (
    PHOTO,
    PROJECT_ROOT,
    ClosedLoop,
    LoadResult,
    Target,
    describe_machine,
    line_plot,
    make_parser,
    median_ratio,
    percentile,
    pluralise,
    publish,
    run_load,
    show_status,
    standalone,
    table,
)

LEVELS = (1, 2, 4, 8, 16, 64)
RESULTS = PROJECT_ROOT / "benchmarks/results"


@dataclass(frozen=True)
class Turn:
    """One load on one server: results/s, and the latencies of the results in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


Turns = dict[str, dict[int, list[Turn]]]


def main() -> None:
    """Run everything, print it and write ``benchmarks/results/``."""
    options = _options()
    peers = [peer for peer in PEERS if peer.name == OURS or peer.name in options.peers]
    package = active_version(PROJECT_ROOT / "weights/imagenet")
    turns: Turns = {peer.name: {level: [] for level in options.connections} for peer in peers}
    raw: list[float] = []
    for number in range(options.rounds):
        show_status(f"round {number + 1} of {options.rounds}: raw loop")
        engine, rate = _raw_loop(package, options)
        raw.append(rate)
        for peer in peers:
            show_status(f"round {number + 1} of {options.rounds}: {peer.name}")
            for level, result in _measure(peer, package, options).items():
                times = result.answered()
                p50_ms, p99_ms = percentile(times, 0.5), percentile(times, 0.99)
                turns[peer.name][level].append(Turn(result.throughput(), p50_ms, p99_ms))
        show_status("raw loop")
        raw.append(_raw_loop(package, options)[1])
    text = _report(peers, engine, raw, turns, options)
    _write_results(text, turns)
    figures: dict[str, Any] = {
        "raw_loop": raw,
        "runs": {peer.name: peer.runs.replace("ENGINE", engine) for peer in peers},
        "turns": {
            name: {
                level: [dataclasses.asdict(turn) for turn in of_level]
                for level, of_level in levels.items()
            }
            for name, levels in turns.items()
        },
    }
    publish(options, text, figures)


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "run")
    names = [peer.name for peer in PEERS if peer.name != OURS]
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--duration", type=float, default=5, help="seconds of a load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=list(LEVELS))
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="NAME")
    return parser.parse_args()


def _raw_loop(package: Path, options: argparse.Namespace) -> tuple[str, float]:
    """The engine that tuning chose, and images/s of the loop without HTTP."""
    arguments = [str(package), str(options.photo), str(options.duration * 3)]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.raw_loop", *arguments],
        cwd=PROJECT_ROOT,
        env=clean_environment() | settings_environment(dict(options.setting)),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(ended.stdout.splitlines()[-1])
    return str(found["engine"]), float(found["rate"])


def _measure(peer: Peer, package: Path, options: argparse.Namespace) -> dict[int, LoadResult]:
    with running(peer, package, settings_environment(dict(options.setting))) as port:
        target = Target(HOST, port, peer.path, [peer.body(options.photo)])
        require_same_class(peer, run_load(target, ClosedLoop(8), 3))
        return {
            level: run_load(target, ClosedLoop(level), options.duration)
            for level in options.connections
        }


def _report(
    peers: list[Peer], engine: str, raw: list[float], turns: Turns, options: argparse.Namespace
) -> str:
    names = [peer.name for peer in peers]
    others = names[1:]
    rates = _rates(turns)
    median = {key: statistics.median(values) for key, values in rates.items()}
    rows, ratios = [], []
    for level in options.connections:
        ours = median[OURS, level]
        rows.append([str(level), *(f"{median[name, level]:.1f}" for name in names)])
        best = max(others, key=lambda name: median[name, level])
        per_round = median_ratio(rates[OURS, level], rates[best, level])
        tails = [turn.p99_ms / max(turn.p50_ms, 1e-9) for turn in turns[OURS][level]]
        found = [ours / statistics.median(raw), ours / median[best, level], per_round]
        tail = f"{statistics.median(tails):.1f}"
        ratios.append([str(level), *(f"{ratio:.2f}" for ratio in found), best, tail])
    lines = [
        f"Raw loop without HTTP: {statistics.median(raw):.1f} images/s.",
        "",
        "Results/s:",
        "",
        table(("connections", *names), rows),
        "",
        "classifyd in relation to them:",
        "",
        table(
            ("connections", "÷ raw loop", "÷ best peer", "per round", "best peer", "p99 ÷ p50"),
            ratios,
        ),
        "",
        _explain(peers, engine, options),
    ]
    return "\n".join(lines) + "\n"


def _rates(turns: Turns) -> dict[tuple[str, int], list[float]]:
    return {
        (name, level): [turn.rate for turn in found]
        for name, levels in turns.items()
        for level, found in levels.items()
    }


def _explain(peers: list[Peer], engine: str, options: argparse.Namespace) -> str:
    """Say in words how the ratios came about."""
    runs = [f"- {peer.name}: {peer.runs.replace('ENGINE', engine)}." for peer in peers]
    how = (
        f"How the ratios came about: every server got the same photo ({options.photo.name}) as "
        "base64 in a JSON body, from the same load generator on the same machine, which shares "
        "the CPUs with it; answers must name the same class. The servers took turns, one at a "
        f"time, in {pluralise(options.rounds, 'round')}: {options.duration:g} s at each number of "
        "connections after a warm-up, with the raw loop before and after them. *÷* are ratios of "
        "the medians of all rounds; *per round* is the median of the ratios of each round, whose "
        "two turns lie within minutes. All of them compute the demo model in float32 on the CPU:"
    )
    return "\n".join([how, "", *runs])


def _write_results(text: str, turns: Turns) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench.md").write_text(f"{describe_machine()}\n\n{text}", encoding="utf-8")
    rates = _rates(turns)
    points = [(float(level), statistics.median(rates[OURS, level])) for level in turns[OURS]]
    levels = [f"{level:g}" for level, _ in points]
    series = [("results/s", [rate for _, rate in points])]
    chart = line_plot("classifyd, results/s", "connections", levels, series)
    (RESULTS / "bench.svg").write_text(standalone(chart), "utf-8")


if __name__ == "__main__":
    main()
