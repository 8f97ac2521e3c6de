"""The report of an optimisation: one self-contained HTML file, and the same as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.optimisation.optimisation import Optimisation, Row
from app.optimisation.scoring import Share
from app.reporting.counts import pluralise
from app.reporting.pages import render_page
from app.system.cpus import cpu_model, usable_cpus

HEAD = (
    *("candidate", "top-1", "top-5", "lost points of top-1", "same top label as float32"),
    *("calibration error", "ms", "times as fast", "ms of a request"),
)


def to_json(result: Optimisation) -> dict[str, Any]:
    """The optimisation as JSON values; shares are from 0 to 1."""
    manifest = result.source.manifest
    return {
        "name": manifest.name,
        "source": manifest.version,
        "version": result.package.manifest.version if result.package else None,
        "digest": result.package.digest if result.package else None,
        "max_drop": result.max_drop,
        "chosen": result.chosen if result.package else None,
        "photos": {
            "calibration": len(result.photos.calibration),
            "unseen": len(result.photos.unseen),
            "rejected": len(result.photos.failures),
        },
        "processor": cpu_model(),
        "cores": usable_cpus(),
        "candidates": [asdict(row) | {"request_ms": row.request_ms} for row in result.rows],
    }


def conclusion(result: Optimisation) -> str:
    """Say in one or two sentences what came out."""
    manifest, limit = result.source.manifest, f"{result.max_drop * 100:g}"
    float32 = result.rows[0]
    if result.package is None:
        return (
            f"No candidate is 5 % faster than {manifest.name}/{manifest.version} and loses at most "
            f"{limit} points of top-1 on both halves: no version was written."
        )
    best = next(row for row in result.rows if row.name == result.chosen)
    drop = best.unseen.drop
    return (
        f"{manifest.name}/{result.package.manifest.version} ({best.name}) computes "
        f"{float32.ms / best.ms:.1f} times as fast as {manifest.version} and "
        f"{_lost(drop.share)} of top-1 on {pluralise(best.unseen.photos, 'photo')} that it "
        f"had not seen (95 % interval {_points(drop.interval_95)})."
    )


def table_rows(result: Optimisation, *, intervals: bool = True) -> list[list[str]]:
    """The rows of the table, in the order of HEAD, for people."""
    float32 = result.rows[0]
    return [_cells(row, float32, result, intervals) for row in result.rows]


def write_report(path: Path, result: Optimisation) -> None:
    """Write the HTML report to a path, and the JSON next to it.

    Raises:
        OSError: a file cannot be written.
    """
    manifest = result.source.manifest
    html = render_page(
        "optimisation/report.html",
        title=f"Optimisation of {manifest.name} {manifest.version}",
        lead=conclusion(result),
        result=result,
        processor=cpu_model(),
        cores=usable_cpus(),
        head=HEAD,
        rows=table_rows(result),
        calibration=[
            [row.name, _share(row.calibration.top1), _points_of(row.calibration.drop)]
            for row in result.rows[1:]
        ],
        layers=_layers_in_float(result),
    )
    path.write_text(html, encoding="utf-8")
    text = json.dumps(to_json(result), ensure_ascii=False, indent=2)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def _layers_in_float(result: Optimisation) -> list[str]:
    record = result.package.manifest.optimisation if result.package else None
    return list(record["layers_in_float32"]) if record else []


def _cells(row: Row, float32: Row, result: Optimisation, intervals: bool) -> list[str]:
    quality = row.unseen
    mark = " (chosen)" if result.package and row.name == result.chosen else ""
    if row is not float32 and not row.fits:
        mark = " (loses too much)"
    shares = (quality.top1, quality.top5, quality.agreement, quality.calibration_error)
    top1, top5, agreement, calibration = (_share(share, intervals) for share in shares)
    drop = "" if row is float32 else _points_of(quality.drop, intervals)
    spread = f" ({row.ms:.2f} to {row.worst_ms:.2f})" if intervals else ""
    return [
        row.name + mark,
        *(top1, top5, drop, "" if row is float32 else agreement, calibration),
        *(f"{row.ms:.2f}{spread}", f"{float32.ms / row.ms:.1f}", f"{row.request_ms:.1f}"),
    ]


def _share(share: Share, intervals: bool = True) -> str:
    low, high = (f"{end * 100:.1f}" for end in share.interval_95)
    return f"{share.share * 100:.1f} %" + (f" ({low} to {high})" if intervals else "")


def _points_of(drop: Share, intervals: bool = True) -> str:
    return f"{drop.share * 100:+.1f}" + (f" ({_points(drop.interval_95)})" if intervals else "")


def _points(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low * 100:+.1f} to {high * 100:+.1f}"


def _lost(drop: float) -> str:
    if abs(drop) < 5e-4:
        return "loses nothing"
    return f"{'loses' if drop > 0 else 'gains'} {abs(drop) * 100:.1f} points"
