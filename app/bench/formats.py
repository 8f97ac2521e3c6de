"""A report as text, JSON, Markdown and HTML."""

from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from app.bench.conclusion import conclude
from app.bench.report import Report, Run, charts, notes, percentile, tables
from app.reporting.pages import render_page


def to_text(report: Report) -> str:
    """Write facts, loads and notes for a terminal."""
    head, body = tables(report)["Load"]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (head, *body)
    ]
    facts = [f"{name}: {value}" for name, value in report.facts]
    remarks = (*notes(report), conclude(report.runs).text)
    return "\n".join([*facts, "", *lines, *(f"\n{remark}" for remark in remarks)])


def to_json(report: Report) -> dict[str, Any]:
    """The figures for a script."""
    return {
        "facts": dict(report.facts),
        "conclusion": asdict(conclude(report.runs)),
        "notes": notes(report),
        "runs": [_run_json(run) for run in report.runs],
    }


def _run_json(run: Run) -> dict[str, Any]:
    result = run.result
    return {
        "load": run.name,
        "connections": None if run.is_open else run.level,
        "rate": run.level if run.is_open else None,
        "duration_s": result.duration_s,
        "sent_per_s": result.offered(),
        "results_per_s": result.throughput(),
        "latency_ms": run.latency_ms(),
        "errors": {
            name: {"count": len(times), "p99_ms": percentile(times, 0.99)}
            for name, times in run.errors().items()
        },
        "late_p99_ms": percentile(result.late_ms, 0.99),
        "stages_ms": {name: percentile(times, 0.5) for name, times in result.stages_ms.items()},
        "memory_mb": run.memory_mb or None,
        "generator_busy": result.busy,
        "generator_processes": result.processes,
    }


def to_markdown(report: Report, images: dict[str, str]) -> str:
    """Write the report as Markdown, with the files of its charts by name."""
    parts = [f"# {report.title}", conclude(report.runs).text]
    parts += [f"> {note}" for note in notes(report)]
    parts += [f"![{name}]({file})" for name, file in images.items()]
    for heading, (head, rows) in tables(report).items():
        parts += [f"## {heading}", _markdown_table(head, rows)]
    parts += ["## Conditions", _markdown_table(("what", "value"), report.facts)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(head: tuple[str, ...], rows: list[Any]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def to_html(report: Report) -> str:
    """Write the report as one HTML file that loads nothing."""
    return render_page(
        "bench/report.html",
        title=report.title,
        lead=conclude(report.runs).text,
        facts=report.facts,
        notes=notes(report),
        tables=tables(report),
        # Charts escape every text in them.
        charts={name: Markup(svg) for name, svg in charts(report).items()},  # noqa: S704 - see above
    )
