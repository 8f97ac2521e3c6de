"""What a load test says in a sentence or two, derived from its figures by fixed rules."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.bench.report import MIN_OFFERED_SHARE, Run

NEAR_PEAK = 0.95
"""From this share of the highest throughput on, more connections are not worth their waiting:
the throughput of one load differs by as much from one run to the next."""


@dataclass(frozen=True)
class Conclusion:
    """The result of a load test.

    Attributes:
        text: for people.
        results_per_s: the highest throughput of a load.
        enough_connections: the smallest number of connections with NEAR_PEAK of the highest
            throughput of the closed loops; None without closed loops.
    """

    text: str
    results_per_s: float
    enough_connections: int | None


def conclude(runs: Sequence[Run]) -> Conclusion:
    """Draw the conclusion from at least one run."""
    closed = sorted((run for run in runs if not run.is_open), key=lambda run: run.level)
    sentences = [_describe_open(run) for run in runs if run.is_open]
    enough = None
    if closed:
        peak = max(run.result.throughput() for run in closed)
        enough = next(run for run in closed if run.result.throughput() >= NEAR_PEAK * peak)
        sentences = [_describe_closed(closed, enough, peak), *sentences]
    sentences += [_describe_errors(run) for run in runs if run.errors()]
    return Conclusion(
        " ".join(sentences),
        max(run.result.throughput() for run in runs),
        int(enough.level) if enough else None,
    )


def _describe_closed(closed: Sequence[Run], enough: Run, peak: float) -> str:
    found, last = f"This server returns {peak:.0f} results/s", closed[-1]
    if len(closed) == 1:
        return f"{found} with {enough.name}."
    if enough is last:
        return f"{found} with {enough.name}, the most that were tried; more may bring more."
    before, after = (run.latency_ms()["p50"] for run in (enough, last))
    return (
        f"{found}; more than {enough.name} add only waiting (median latency {before:.0f} ms "
        f"with {enough.level:g}, {after:.0f} ms with {last.level:g})."
    )


def _describe_open(run: Run) -> str:
    if run.result.throughput() < run.level * MIN_OFFERED_SHARE:
        rate = run.result.throughput()
        return f"It does not keep up with {run.name}: it returned {rate:.0f} results/s."
    p99_ms = run.latency_ms()["p99"]
    return f"It keeps up with {run.name}: 99 of 100 are answered within {p99_ms:.0f} ms."


def _describe_errors(run: Run) -> str:
    counts = {name: len(times) for name, times in run.errors().items()}
    total = sum(counts.values()) + len(run.result.answered())
    return f"With {run.name}, {sum(counts.values())} of {total} failed ({', '.join(counts)})."
