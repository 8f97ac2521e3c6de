"""What a load test measured: its runs, and the tables, notes and charts made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.bench.result import LoadResult
from app.reporting.charts import Series, line_plot, stacked_bars

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

MIN_OFFERED_SHARE = 0.99
"""Below this share of the requested rate, the name of an open loop is misleading."""

MAX_LATE_MS = 20
"""If 1 of 100 requests is sent later than this, the delay is visible in the latencies."""

WAITING_STAGE = "queue"
"""The stage of the server that does no work: under load its bar would dwarf the others."""

MAX_GENERATOR_LOAD = 0.9
"""Above this share of a core, the load generator may be what limits the figures."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One load and its result.

    Attributes:
        level: connections, or requests per second of an open loop.
        memory_mb: resident memory of the workers after the run; 0 if they are remote.
    """

    name: str
    level: float
    result: LoadResult
    memory_mb: float = 0.0
    is_open: bool = False

    def errors(self) -> dict[str, list[float]]:
        """The latencies in ms of everything but results, by error code."""
        return {
            "no answer" if code < 0 else str(code): latencies_ms
            for code, latencies_ms in sorted(self.result.latencies_ms.items())
            if code
        }

    def latency_ms(self) -> dict[str, float]:
        """The PERCENTILES of the results' latencies."""
        answered = self.result.answered()
        return {name: percentile(answered, share) for name, share in PERCENTILES.items()}


@dataclass
class Report:
    """A whole load test; the facts are what its figures depend on: hardware, versions, server."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


def percentile(values: Sequence[float], share: float) -> float:
    """The quantile of the values at a share from 0 to 1; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def tables(report: Report) -> dict[str, tuple[Row, list[Row]]]:
    """Header and rows of each table that is not empty, by heading; the first is of the loads."""
    percentiles = [f"{name} ms" for name in PERCENTILES]
    loads = ("load", "sent/s", "results/s", *percentiles, "errors", "memory MB")
    errors = [
        (run.name, name, str(len(times)), *(f"{percentile(times, s):.1f}" for s in (0.5, 0.99)))
        for run in report.runs
        for name, times in run.errors().items()
    ]
    stages = [
        (name, *(f"{median:.2f}" for median in medians))
        for name, medians in _stage_medians(report.runs)
    ]
    found: dict[str, tuple[Row, list[Row]]] = {
        "Load": (loads, [_load_row(run) for run in report.runs]),
        "Errors": (("load", "answer", "count", "p50 ms", "p99 ms"), errors),
        "Stages in the server, median ms": (("stage", *(r.name for r in report.runs)), stages),
    }
    return {heading: (head, rows) for heading, (head, rows) in found.items() if rows}


def _load_row(run: Run) -> Row:
    return (
        run.name,
        f"{run.result.offered():.1f}",
        f"{run.result.throughput():.1f}",
        *(f"{latency_ms:.1f}" for latency_ms in run.latency_ms().values()),
        ", ".join(f"{name}: {len(times)}" for name, times in run.errors().items()) or "0",
        f"{run.memory_mb:.0f}" if run.memory_mb else "-",
    )


def _stage_medians(runs: list[Run]) -> list[Series]:
    """For each stage of the server, in its order, the median ms in each run."""
    names = dict.fromkeys(name for run in runs for name in run.result.stages_ms)
    return [
        (name, [percentile(run.result.stages_ms.get(name, []), 0.5) for run in runs])
        for name in names
    ]


def notes(report: Report) -> list[str]:
    """What makes figures unreliable."""
    found = []
    for run in report.runs:
        result, late_ms = run.result, percentile(run.result.late_ms, 0.99)
        is_behind = result.offered() < run.level * MIN_OFFERED_SHARE or late_ms > MAX_LATE_MS
        if run.is_open and is_behind:
            reason = "all connections were waiting" if result.held_back else "it was too slow"
            found.append(
                f"{run.name}: the load generator fell behind because {reason}. It sent "
                f"{result.offered():.1f} requests/s, 1 of 100 more than {late_ms:.0f} ms late. "
                "Latencies start when a request was due, so they include the delay."
            )
        if result.busy > MAX_GENERATOR_LOAD:
            found.append(
                f"{run.name}: the load generator used {result.busy:.0%} of a core, "
                "which may limit the figures."
            )
    return found


def charts(report: Report) -> dict[str, str]:
    """The charts as SVG, by name: two of the closed loops, and one of the stages of all loads."""
    found = {}
    if closed := [run for run in report.runs if not run.is_open]:
        levels = [f"{run.level:g}" for run in closed]
        rates: Series = ("results/s", [run.result.throughput() for run in closed])
        found["throughput"] = line_plot("Results per second", "connections", levels, [rates])
        latencies: list[Series] = [
            (name, [run.latency_ms()[name] for run in closed]) for name in PERCENTILES
        ]
        found["latency"] = line_plot("Latency in ms", "connections", levels, latencies)
    if stages := [row for row in _stage_medians(report.runs) if row[0] != WAITING_STAGE]:
        names = [f"{run.level:g}{'/s' if run.is_open else ''}" for run in report.runs]
        title = f"Median ms by stage of the server, without {WAITING_STAGE}"
        found["stages"] = stacked_bars(title, "connections, or requests/s", names, stages)
    return found
