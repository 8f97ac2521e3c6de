"""``classifyd bench``: load for a running server, and a report."""

import base64
import json
import platform
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson

from app.bench.load import Progress, Target, closed_loop, open_loop
from app.bench.report import Report, Run, plots, to_html, to_json, to_markdown, to_text
from app.bench.server import describe_server, workers_memory_mb
from app.cli.output import clear_status, show_status
from app.errors import OperatorError
from app.inference.tuning.selection import library_versions
from app.settings import PROJECT_ROOT
from app.system.cpus import cpu_model, usable_cpus

DEFAULT_URL = "http://127.0.0.1:8000/imagenet/ImageClassification"
PHOTOS = PROJECT_ROOT / "tests/photos"


@click.command()
@click.argument("url", default=DEFAULT_URL)
@click.option("--photos", type=click.Path(path_type=Path), help="a folder of jpg, png and bmp")
@click.option(
    "--connections",
    default="1,2,4,8,16,64",
    show_default=True,
    help="closed loops: requests in flight; '' for none",
)
@click.option("--rate", type=click.FloatRange(min=0.1), help="an open loop: requests a second")
@click.option(
    "--processes",
    type=click.IntRange(0, 64),
    default=0,
    help="that send the open loop; 0 is as many as the rate needs",
)
@click.option("--duration", type=click.FloatRange(min=1), default=10, show_default=True)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="write PATH.html, and PATH.md with its plots beside it",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def bench(
    url: str,
    photos: Path | None,
    connections: str,
    rate: float | None,
    processes: int,
    duration: float,
    report: Path | None,
    as_json: bool,
) -> None:
    """Send load to the server at URL and say how it did, each load for DURATION seconds."""
    target, levels = make_target(url, photos or PHOTOS), _levels(connections)
    if not levels and rate is None:
        raise click.UsageError("nothing to do: --connections is empty, and there is no --rate")
    if report:
        report = report.with_suffix("") if report.suffix in {".md", ".html"} else report
        _write(report, ".html", "")  # a place that cannot be written is told before the load
    _check(target, url)
    found = Report(f"Load on {url}", _facts(target))
    for level in levels:
        name = f"{level} connection{'s' * (level > 1)}"
        result = closed_loop(target, level, duration, _progress(name))
        found.runs.append(Run(name, level, result, workers_memory_mb(target)))
    if rate is not None:
        name = f"{rate:g} requests/s"
        result = open_loop(target, rate, duration, _progress(name), processes)
        found.runs.append(Run(name, rate, result, workers_memory_mb(target), is_open=True))
    clear_status()
    print(json.dumps(to_json(found), indent=2) if as_json else to_text(found))
    if report:
        _write_report(report, found)


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


def _check(target: Target, url: str) -> None:
    """Refuse to measure how fast a server fails."""
    try:
        result = closed_loop(target, 1, 1)
    except OSError as exc:
        raise OperatorError(f"{url}: the host's name cannot be resolved") from exc
    if not result.answered():
        codes = ", ".join(str(code) for code in result.latencies_ms if code > 0)
        told = f"answers error {codes}" if codes else "does not answer"
        raise OperatorError(f"{url} {told}; start the server, or check the URL")


def _facts(target: Target) -> list[tuple[str, str]]:
    libraries = library_versions(("classifyd", "openvino", "torch"))
    kilobytes = [len(body) // 1000 for body in target.bodies]
    return [
        ("time", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())),
        ("server", describe_server(target)),
        ("processor of the client", cpu_model()),
        ("usable CPUs of the client", str(usable_cpus())),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("libraries here", ", ".join(f"{key} {text}" for key, text in libraries.items() if text)),
        ("bodies", f"{len(kilobytes)}, of {min(kilobytes)} to {max(kilobytes)} kB, in turn"),
    ]


def _progress(name: str) -> Progress:
    def show(results: int, elapsed_s: float) -> None:
        text = f"{name}: {elapsed_s:.0f} s, {results / elapsed_s:.1f} results/s"
        show_status(text, ending="")

    return show


def _write_report(path: Path, found: Report) -> None:
    files = {}
    for name, svg in plots(found).items():
        files[name] = _write(path, f"-{name}.svg", svg).name
    _write(path, ".md", to_markdown(found, files))
    written = _write(path, ".html", to_html(found))
    print(f"{written}: written, and the same as {path.name}.md", file=sys.stderr)


def _write(path: Path, ending: str, text: str) -> Path:
    file = path.with_name(path.name + ending)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OperatorError(f"{file} cannot be written: {exc.strerror}") from exc
    return file
