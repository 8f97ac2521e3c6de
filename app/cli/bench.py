"""``classifyd bench``: load for a running server, and a report."""

import base64
import json
import platform
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson

from app.bench.load import LoadResult, Progress, Target, closed_loop, open_loop
from app.bench.local import workers_memory_mb
from app.bench.report import HEAD, Report, Run, table_rows, to_html, to_markdown
from app.errors import OperatorError
from app.inference.choice import library_versions
from app.machine import cpu_model, usable_cpus
from app.settings import PROJECT_ROOT

DEFAULT_URL = "http://127.0.0.1:8000/imagenet/ImageClassification"
PHOTOS = PROJECT_ROOT / "tests/photos"


@click.command()
@click.argument("url", default=DEFAULT_URL)
@click.option("--photos", type=click.Path(path_type=Path), help="a folder of jpg, png and bmp")
@click.option("--connections", default="1,2,4,8,16,64", show_default=True, help="closed loops")
@click.option("--rate", type=click.FloatRange(min=0.1), help="an open loop: requests a second")
@click.option("--duration", type=click.FloatRange(min=1), default=10, show_default=True)
@click.option("--report", type=click.Path(path_type=Path), help="write PATH.md and PATH.html")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def bench(
    url: str,
    photos: Path | None,
    connections: str,
    rate: float | None,
    duration: float,
    report: Path | None,
    as_json: bool,
) -> None:
    """Send load to the server at URL and say how it did, each load for DURATION seconds."""
    target = make_target(url, photos or PHOTOS)
    _check(closed_loop(target, 1, 1), url)
    found = Report(f"Load on {url}", _facts(target))
    for level in _levels(connections):
        result = closed_loop(target, level, duration, _progress(f"{level} connections"))
        found.runs.append(Run(f"{level} connections", level, result, workers_memory_mb(target)))
    if rate is not None:
        result = open_loop(target, rate, duration, _progress(f"{rate:g} requests/s"))
        name = f"{rate:g} requests/s offered"
        found.runs.append(Run(name, rate, result, workers_memory_mb(target)))
    _clear_progress()
    print(_as_json(found) if as_json else _as_text(found))
    if report:
        report.with_suffix(".md").write_text(to_markdown(found), encoding="utf-8")
        report.with_suffix(".html").write_text(to_html(found), encoding="utf-8")


def make_target(url: str, photos: Path) -> Target:
    """Read the photos of a folder into request bodies for a URL.

    Raises:
        OperatorError: the URL or the folder is of no use.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or not parts.path.strip("/"):
        raise OperatorError(f"{url}: expected http://HOST:PORT/NAME/ImageClassification")
    kinds = {".jpg", ".jpeg", ".png", ".bmp"}
    files = sorted(path for path in photos.glob("*") if path.suffix.lower() in kinds)
    if not files:
        raise OperatorError(f"{photos}: no jpg, png or bmp is here; name a folder with --photos")
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return Target(parts.hostname, parts.port or 80, path, [_body(file) for file in files])


def _body(file: Path) -> bytes:
    return orjson.dumps({"image": base64.b64encode(file.read_bytes()).decode("ascii")})


def _levels(text: str) -> list[int]:
    numbers = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and 0 < int(part) <= 1024 for part in numbers):
        raise click.UsageError(f"--connections {text!r}: expected numbers from 1 to 1024")
    return [int(part) for part in numbers]


def _check(result: LoadResult, url: str) -> None:
    """Refuse to measure how fast a server fails."""
    if not result.answered():
        codes = ", ".join(str(code) for code in result.latencies_ms if code > 0)
        told = f"answers error {codes}" if codes else "does not answer"
        raise OperatorError(f"{url} {told}; start the server, or check the URL")


def _facts(target: Target) -> list[tuple[str, str]]:
    libraries = library_versions(("classifyd", "openvino", "torch"))
    return [
        ("processor of the client", cpu_model()),
        ("usable CPUs of the client", str(usable_cpus())),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("libraries", ", ".join(f"{name} {text}" for name, text in libraries.items() if text)),
        ("photos", f"{len(target.bodies)}, {sum(map(len, target.bodies)) // 1000} kB of JSON"),
    ]


def _progress(name: str) -> Progress:
    def show(result: LoadResult, elapsed_s: float) -> None:
        if sys.stderr.isatty():
            done = len(result.answered())
            text = f"{name}: {elapsed_s:.0f} s, {done / elapsed_s:.1f} results/s"
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    return show


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _as_text(found: Report) -> str:
    rows = [HEAD, *table_rows(found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    facts = [f"{name}: {value}" for name, value in found.facts]
    return "\n".join([*facts, "", *lines])


def _as_json(found: Report) -> str:
    runs = [dict(zip(HEAD, row, strict=True)) for row in table_rows(found)]
    return json.dumps({"facts": dict(found.facts), "runs": runs}, indent=2)
