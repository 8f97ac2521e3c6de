"""A benchmark's figures as Markdown and as one HTML file with its plots inside."""

from dataclasses import dataclass, field
from html import escape

from app.bench.load import LoadResult

_WIDTH, _HEIGHT, _MARGIN = 640, 260, 48


@dataclass(frozen=True)
class Run:
    """One load and its result.

    Attributes:
        name: such as ``8 connections`` or ``100 requests/s``.
        level: connections or requests in a second; the plots' horizontal axis.
        result: what was answered.
        memory_mb: resident memory of the workers afterwards; 0 when they are elsewhere.
    """

    name: str
    level: float
    result: LoadResult
    memory_mb: float = 0.0


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


HEAD = ("load", "results/s", "p50 ms", "p95 ms", "p99 ms", "errors", "memory MB")


def table_rows(report: Report) -> list[tuple[str, ...]]:
    """One row of text for each run, under HEAD."""
    return [_row(run) for run in report.runs]


def _row(run: Run) -> tuple[str, ...]:
    answered = run.result.answered()
    errors = {code: len(times) for code, times in run.result.latencies_ms.items() if code}
    return (
        run.name,
        f"{run.result.throughput():.1f}",
        *(f"{percentile(answered, share):.1f}" for share in (0.50, 0.95, 0.99)),
        ", ".join(f"{_code_name(code)}: {count}" for code, count in sorted(errors.items())) or "0",
        f"{run.memory_mb:.0f}" if run.memory_mb else "-",
    )


def _code_name(code: int) -> str:
    return "no answer" if code < 0 else str(code)


def stage_rows(report: Report) -> list[tuple[str, ...]]:
    """Name and median milliseconds of each stage of the server, of the run that was fastest."""
    best = max(report.runs, key=lambda run: run.result.throughput(), default=None)
    stages = best.result.stages_ms if best else {}
    return [(name, f"{percentile(times, 0.5):.2f}") for name, times in stages.items()]


def to_markdown(report: Report) -> str:
    """Write the report as Markdown."""
    parts = [f"# {report.title}", _markdown_table(("what", "value"), report.facts)]
    parts += ["## Load", _markdown_table(HEAD, table_rows(report))]
    if stages := stage_rows(report):
        parts += ["## Stages in the server", _markdown_table(("stage", "median ms"), stages)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(
    head: tuple[str, ...], rows: list[tuple[str, ...]] | list[tuple[str, str]]
) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def to_html(report: Report) -> str:
    """Write the report as one HTML file that loads nothing."""
    plots = [
        plot("results/s", [(run.level, run.result.throughput()) for run in report.runs]),
        plot(
            "p99 ms", [(run.level, percentile(run.result.answered(), 0.99)) for run in report.runs]
        ),
    ]
    body = [f"<h1>{escape(report.title)}</h1>", _html_table(("what", "value"), report.facts)]
    body += ["<h2>Load</h2>", _html_table(HEAD, table_rows(report)), *plots]
    if stages := stage_rows(report):
        body += ["<h2>Stages in the server</h2>", _html_table(("stage", "median ms"), stages)]
    style = "body{font:15px sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(report.title)}'
        f"</title><style>{style}</style>{''.join(body)}</html>\n"
    )


def _html_table(head: tuple[str, ...], rows: list[tuple[str, ...]] | list[tuple[str, str]]) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def plot(title: str, points: list[tuple[float, float]]) -> str:
    """Draw a line through points as an SVG, each labelled with its value.

    Args:
        title: what the vertical axis shows.
        points: level and value; the levels stand side by side at equal distances.
    """
    top = max((value for _, value in points), default=0.0) or 1.0
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(points) - 1)
    placed = [
        (_MARGIN + index * step, _HEIGHT - _MARGIN - value / top * (_HEIGHT - 2 * _MARGIN))
        for index, (_, value) in enumerate(points)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{value:.1f}</text>'
        f'<text x="{x:.1f}" y="{_HEIGHT - _MARGIN / 2}" text-anchor="middle">{level:g}</text>'
        for (x, y), (level, value) in zip(placed, points, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-size="12"><text x="8" y="16">{escape(title)}</text>'
        f'<polyline points="{line}" fill="none" stroke="#0a6" stroke-width="2"/>{marks}</svg>'
    )
