"""Many times more requests than can be answered: how many are, and how soon the others are refused.

    python -m benchmarks.overload
    python -m benchmarks.overload --times 10 --seconds 60

The requests hold the photos of ``tests/photos`` in turn, of all sizes and formats. In each round
the peak is measured first, by closed loops, and then the open loop sends at its rate, whether
answers come or not. Latencies run from when a request was due. GET /healthz is sent once a second
from a process of its own.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import HealthSummary, health_checks, summarize
from benchmarks.server import Server
from benchmarks.support import (
    NO_ANSWER,
    PROJECT_ROOT,
    ClosedLoop,
    LoadResult,
    OpenLoop,
    Target,
    allow_many_files,
    make_parser,
    percentile,
    photo_body,
    pluralise,
    publish,
    run_load,
    show_status,
    table,
)

PHOTOS = PROJECT_ROOT / "tests/photos"
PEAK_CONNECTIONS = (8, 64)
REFUSED = 336100
WARM_UP_S = 3


@dataclass(frozen=True)
class Latency:
    """How soon answers of one kind came, in milliseconds."""

    per_s: float
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, result: LoadResult, code: int) -> "Latency":
        """The latencies of one error_code; 0 is a result."""
        times = result.latencies_ms.get(code, [])
        rate = result.throughput() if code == 0 else len(times) / result.duration_s
        return cls(rate, percentile(times, 0.5), percentile(times, 0.99), max(times, default=0.0))


@dataclass(frozen=True)
class Round:
    """The peak and the overload after it.

    Attributes:
        peak: results/s of the better closed loop.
        rate: requests/s that the open loop was to send.
        sent: requests/s that it sent.
        results: of the overload.
        refusals: the answers 336100 of it.
        others: how many answers were of other kinds, by code; -1 is no answer.
        peak_mb: the highest resident memory of a worker in the overload.
        health: health checks during the overload.
        generator_busy: processor time of the busiest sender, as a share of one core.
    """

    peak: float
    rate: float
    sent: float
    results: Latency
    refusals: Latency
    others: dict[int, int]
    peak_mb: float
    health: HealthSummary
    generator_busy: float


def measure(server: Server, target: Target, options: argparse.Namespace) -> Round:
    """Measure the peak, then the overload."""
    loops = [
        run_load(target, ClosedLoop(level), options.peak_seconds) for level in PEAK_CONNECTIONS
    ]
    peak = max(loop.throughput() for loop in loops)
    rate = peak * options.times if options.times else options.rate
    server.reset_peak()
    with health_checks(server) as checks:
        begin = time.perf_counter()
        result = run_load(target, OpenLoop(rate), options.seconds)
        end = time.perf_counter()
    return Round(
        peak,
        rate,
        result.offered(),
        Latency.of(result, 0),
        Latency.of(result, REFUSED),
        {code: len(t) for code, t in result.latencies_ms.items() if code not in (0, REFUSED)},
        server.peak_mb(),
        summarize(checks, begin, end),
        result.busy,
    )


def _report(rounds: list[Round], options: argparse.Namespace) -> str:
    def median(values: list[float]) -> str:
        return f"{statistics.median(values):.1f}"

    def kind(name: str, found: list[Latency]) -> list[str]:
        attributes = [field.name for field in dataclasses.fields(Latency)]
        return [
            name,
            *(median([getattr(one, attribute) for one in found]) for attribute in attributes),
        ]

    others = [
        f"{'no answer' if code == NO_ANSWER else code}: {count}"
        for one in rounds
        for code, count in one.others.items()
    ]
    share = statistics.median(one.results.per_s / one.peak for one in rounds)
    health = [one.health for one in rounds]
    facts = [
        ("peak of closed loops, results/s", median([one.peak for one in rounds])),
        ("asked of the open loop, requests/s", median([one.rate for one in rounds])),
        ("sent by it, requests/s", median([one.sent for one in rounds])),
        ("answered ÷ peak", f"{share:.3f}"),
        ("peak resident MB of a worker", f"{max(one.peak_mb for one in rounds):.0f}"),
        (
            "health checks within 1 s",
            f"{sum(h.in_time for h in health)} of {sum(h.total for h in health)}, "
            f"slowest {max(h.slowest_s for h in health):.3f} s",
        ),
        ("other answers", ", ".join(others) or "none"),
        ("busiest sender, share of a core", median([one.generator_busy for one in rounds])),
    ]
    return "\n".join(
        [
            f"Medians of {pluralise(len(rounds), 'round')}, each an overload of "
            f"{options.seconds:g} s.",
            "",
            table(("", "found"), facts),
            "",
            table(
                ("answer", "per second", "p50 ms", "p99 ms", "max ms"),
                [
                    kind("results", [one.results for one in rounds]),
                    kind(str(REFUSED), [one.refusals for one in rounds]),
                ],
            ),
        ]
    )


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, "overload")
    parser.add_argument("--rate", type=float, default=2000, help="requests/s of the open loop")
    parser.add_argument("--times", type=float, help="the rate as a multiple of the measured peak")
    parser.add_argument("--seconds", type=float, default=30, help="of the overload")
    parser.add_argument("--peak-seconds", type=float, default=8, help="of each closed loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of jpg, png and bmp")
    parser.add_argument("--checkout", type=Path, default=PROJECT_ROOT, help="whose server")
    return parser.parse_args()


def main() -> None:
    """Run the rounds and print the tables."""
    options = _options()
    allow_many_files()
    files = sorted(p for p in options.photos.iterdir() if p.suffix in {".jpg", ".png", ".bmp"})
    bodies = [photo_body(file) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), options.checkout, settings=options.setting)
        show_status("choosing the engine")
        server.tune()
        rounds = []
        with server.running():
            target = server.target(*bodies)
            run_load(target, ClosedLoop(8), WARM_UP_S)
            for number in range(options.rounds):
                show_status(f"round {number + 1} of {options.rounds}")
                rounds.append(measure(server, target, options))
    figures: dict[str, Any] = {"rounds": [dataclasses.asdict(one) for one in rounds]}
    publish(options, _report(rounds, options), figures)


if __name__ == "__main__":
    main()
