"""A benchmark's figures as text, JSON, Markdown and one HTML file, with plots."""

from dataclasses import dataclass, field
from html import escape
from typing import Any

from app.bench.result import LoadResult
from app.reporting.charts import Series, line_plot, stacked_bars

SHARES = (0.50, 0.95, 0.99)

BEHIND = 0.99
"""Below this part of the rate asked for, an open loop was another load than its name says."""

LATE_MS = 20
"""Sending later than this, in one of a hundred requests, is seen in the latencies."""

WAITING = "queue"
"""The server's stage that is no work: its bar would dwarf the others under load."""

BUSY = 0.9
"""Above this share of a core the load generator may be what is measured."""


@dataclass(frozen=True)
class Run:
    """One load and its result.

    Attributes:
        name: such as ``8 connections`` or ``100 requests/s``.
        level: connections, or requests in a second.
        result: what was answered.
        memory_mb: resident memory of the workers afterwards; 0 when they are elsewhere.
        is_open: whether it was an open loop.
    """

    name: str
    level: float
    result: LoadResult
    memory_mb: float = 0.0
    is_open: bool = False


@dataclass
class Report:
    """Everything that a benchmark found out.

    Attributes:
        title: what was measured.
        facts: lines of name and value: hardware, versions, server.
        runs: in the order of the loads.
    """

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


HEAD = ("load", "sent/s", "results/s", "p50 ms", "p95 ms", "p99 ms", "errors", "memory MB")


def table_rows(report: Report) -> list[tuple[str, ...]]:
    """One row of text for each run, under HEAD."""
    return [_row(run) for run in report.runs]


def _row(run: Run) -> tuple[str, ...]:
    answered = run.result.answered()
    return (
        run.name,
        f"{run.result.offered():.1f}",
        f"{run.result.throughput():.1f}",
        *(f"{percentile(answered, share):.1f}" for share in SHARES),
        ", ".join(f"{name}: {len(times)}" for name, times in _errors(run.result).items()) or "0",
        f"{run.memory_mb:.0f}" if run.memory_mb else "-",
    )


def _errors(result: LoadResult) -> dict[str, list[float]]:
    """The latencies of what was no result, by code."""
    return {
        "no answer" if code < 0 else str(code): times
        for code, times in sorted(result.latencies_ms.items())
        if code
    }


ERROR_HEAD = ("load", "answer", "count", "p50 ms", "p99 ms")


def error_rows(report: Report) -> list[tuple[str, ...]]:
    """How soon each error came, one row for each run and code, under ERROR_HEAD."""
    return [
        (run.name, name, str(len(times)), *(f"{percentile(times, s):.1f}" for s in (0.5, 0.99)))
        for run in report.runs
        for name, times in _errors(run.result).items()
    ]


def notes(report: Report) -> list[str]:
    """What a reader must know before he believes the figures."""
    found = []
    for run in report.runs:
        result, late_ms = run.result, percentile(run.result.late_ms, 0.99)
        if run.is_open and (result.offered() < run.level * BEHIND or late_ms > LATE_MS):
            reason = "all its connections waited" if result.held_back else "it was too slow"
            found.append(
                f"{run.name}: the load generator fell behind, as {reason}. It sent "
                f"{result.offered():.1f} requests a second, 1 of 100 more than {late_ms:.0f} ms "
                "late. Latencies run from when a request was due, so they hold the delay."
            )
        if result.busy > BUSY:
            found.append(
                f"{run.name}: the load generator was busy for {result.busy:.0%} of a core, "
                "which may be what limits the figures."
            )
    return found


def stage_names(report: Report) -> list[str]:
    """The server's stages, in their order."""
    return list(dict.fromkeys(name for run in report.runs for name in run.result.stages_ms))


def _stage_series(runs: list[Run], names: list[str]) -> list[Series]:
    """The median of each stage in each run."""
    return [
        (name, [percentile(run.result.stages_ms.get(name, []), 0.5) for run in runs])
        for name in names
    ]


def _stage_rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (name, *(f"{value:.2f}" for value in values))
        for name, values in _stage_series(report.runs, stage_names(report))
    ]


def plots(report: Report) -> dict[str, str]:
    """The plots as SVG, by name: of the closed loops, and of the stages of all loads."""
    found = {}
    closed = [run for run in report.runs if not run.is_open]
    levels = [f"{run.level:g}" for run in closed]
    if closed:
        speeds = [run.result.throughput() for run in closed]
        series = [("results/s", speeds)]
        found["throughput"] = line_plot("Results in a second", "connections", levels, series)
        times = [
            (f"p{share * 100:.0f}", [percentile(r.result.answered(), share) for r in closed])
            for share in SHARES
        ]
        found["latency"] = line_plot("Latency in ms", "connections", levels, times)
    if stages := _stage_series(report.runs, [n for n in stage_names(report) if n != WAITING]):
        names = [f"{run.level:g}{'/s' if run.is_open else ''}" for run in report.runs]
        title = f"Work for a request in ms: the server's stages but {WAITING}, medians"
        found["stages"] = stacked_bars(title, "connections, or requests/s", names, stages)
    return found


def to_json(report: Report) -> dict[str, Any]:
    """The figures for a script."""
    return {
        "facts": dict(report.facts),
        "notes": notes(report),
        "runs": [_run_json(run) for run in report.runs],
    }


def _run_json(run: Run) -> dict[str, Any]:
    result = run.result
    answered = result.answered()
    latencies = {f"p{share * 100:.0f}": percentile(answered, share) for share in SHARES}
    return {
        "load": run.name,
        "connections": None if run.is_open else run.level,
        "rate": run.level if run.is_open else None,
        "duration_s": result.duration_s,
        "sent_per_s": result.offered(),
        "results_per_s": result.throughput(),
        "latency_ms": latencies,
        "errors": {
            name: {"count": len(times), "p99_ms": percentile(times, 0.99)}
            for name, times in _errors(result).items()
        },
        "late_p99_ms": percentile(result.late_ms, 0.99),
        "stages_ms": {name: percentile(times, 0.5) for name, times in result.stages_ms.items()},
        "memory_mb": run.memory_mb or None,
        "generator_busy": result.busy,
        "generator_processes": result.processes,
    }


def to_text(report: Report) -> str:
    """Write facts and table for a terminal."""
    rows = [HEAD, *table_rows(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    facts = [f"{name}: {value}" for name, value in report.facts]
    return "\n".join([*facts, "", *lines, *(f"\n{note}" for note in notes(report))])


_Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _tables(report: Report) -> dict[str, _Table]:
    """Head and rows of each table, by its heading."""
    loads = tuple(run.name for run in report.runs)
    found: dict[str, _Table] = {
        "Load": (HEAD, table_rows(report)),
        "Errors": (ERROR_HEAD, error_rows(report)),
        "Stages in the server, median ms": (("stage", *loads), _stage_rows(report)),
    }
    return {heading: table for heading, table in found.items() if table[1]}


def to_markdown(report: Report, images: dict[str, str]) -> str:
    """Write the report as Markdown.

    Args:
        report: the figures.
        images: the files of the plots, by name.
    """
    parts = [f"# {report.title}", _markdown_table((("what", "value"), [*report.facts]))]
    parts += [f"> {note}" for note in notes(report)]
    for heading, table in _tables(report).items():
        parts += [f"## {heading}", _markdown_table(table)]
    parts += [f"![{name}]({file})" for name, file in images.items()]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: _Table) -> str:
    head, rows = table
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 1000px; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
td, th { border-bottom: 1px solid #ddd; padding: .25em .8em; text-align: right }
td:first-child, th:first-child, .facts td, .facts th { text-align: left }
.note { background: #fff3cd; border-left: 4px solid #e69f00; padding: .5em 1em }
.table { overflow-x: auto }
svg { max-width: 100%; height: auto; margin: 1em 0 }
"""


def to_html(report: Report) -> str:
    """Write the report as one HTML file that loads nothing."""
    title = escape(report.title)
    body = [f"<h1>{title}</h1>", _html_table((("what", "value"), [*report.facts]), "facts")]
    body += [f'<p class="note">{escape(note)}</p>' for note in notes(report)]
    tables = {name: _html_table(table) for name, table in _tables(report).items()}
    body += [f"<h2>Load</h2>{tables.pop('Load', '')}"]
    body += plots(report).values()
    body += [f"<h2>{escape(heading)}</h2>{table}" for heading, table in tables.items()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _html_table(table: _Table, name: str = "") -> str:
    head, rows = table

    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="table"><table class="{name}">{line(head, "th")}{body}</table></div>'


def plot(title: str, points: list[tuple[float, float]]) -> str:
    """Draw one line through points of level and value; see line_plot."""
    levels = [f"{level:g}" for level, _ in points]
    return line_plot(title, "connections", levels, [(title, [value for _, value in points])])
