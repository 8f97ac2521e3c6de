"""``classifyd bench``: send load to a running server, and report how it performs."""

import base64
import platform
import sys
import time
from pathlib import Path

import click
import orjson

from app.bench.connections import Target, find_error_code
from app.bench.formats import to_html, to_json, to_markdown, to_text
from app.bench.load import ClosedLoop, OpenLoop, Pacing, Progress, run_load
from app.bench.report import Report, Run, charts
from app.bench.server import describe_server, workers_memory_mb
from app.cli.calling import calling_options, find_endpoint
from app.cli.options import PATH, json_option, options_of, output_option, renamed
from app.cli.output import clear_status, print_json, show_status, writing
from app.errors import AuthFailed, OperatorError
from app.evaluation.dataset import SUFFIXES
from app.folders import PHOTOS, PROJECT_ROOT
from app.inference.tuning.selection import library_versions
from app.reporting.charts import standalone
from app.reporting.counts import pluralise
from app.system.cpus import cpu_model, usable_cpus
from app.system.endpoint import Endpoint
from app.system.files import is_foreign

TEST_PHOTOS = PROJECT_ROOT / "tests/photos"
DEFAULT_PHOTOS = TEST_PHOTOS if TEST_PHOTOS.is_dir() else PHOTOS


@click.command(context_settings=renamed(report="output"))
@click.argument("url", required=False)
@calling_options
@click.option(
    "--photos",
    type=PATH,
    default=DEFAULT_PHOTOS,
    metavar="FOLDER",
    help="with jpg, png or bmp files (default: photos of the project)",
)
@click.option(
    "--connections",
    default="1,2,4,8,16,64",
    show_default=True,
    metavar="N,...",
    help="closed loops: numbers of requests in flight; '' for none",
)
@click.option("--rate", type=click.FloatRange(min=0.1), help="open loop: requests per second")
@click.option(
    "--processes",
    type=click.IntRange(0, 64),
    default=0,
    help="processes that send the open loop; 0 for as many as the rate needs",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=1),
    default=10,
    show_default=True,
    help="of each load, in seconds",
)
@output_option("report to write as FILE.html and FILE.md, with its charts")
@json_option
@options_of("state_dir")
def bench(
    url: str | None,
    name: str | None,
    token_file: Path | None,
    cacert: Path | None,
    photos: Path,
    connections: str,
    rate: float | None,
    processes: int,
    duration: float,
    output: Path | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Send load to a server, and report its latency and throughput.

    Without the URL of an API it is the server that runs on this machine.

    \b
    Examples:
        classifyd bench --output reports/monday
        classifyd bench --connections '' --rate 50 --duration 60
        classifyd bench https://till.example.com/imagenet/ImageClassification \\
            --token-file till.token --cacert authority.pem
    """
    loads = _loads(connections, rate, processes)
    target = make_target(find_endpoint(url, name, token_file, cacert, options), photos)
    if output:
        output = output.with_suffix("") if output.suffix in {".md", ".html"} else output
        _write(output, ".html", "")  # fail before the load if it cannot be written
    _check(target)
    found = Report(f"Load on {target.url}", _facts(target))
    for load, level, pacing in loads:
        result = run_load(target, pacing, duration, _progress(load))
        is_open, memory_mb = isinstance(pacing, OpenLoop), workers_memory_mb(target)
        found.runs.append(Run(load, level, result, memory_mb, is_open))
    clear_status()
    if as_json:
        print_json(to_json(found))
    else:
        print(to_text(found))
    if output:
        _write_report(output, found)


def make_target(endpoint: Endpoint, photos: Path) -> Target:
    """Make a target of an endpoint, with the photos of a folder as request bodies.

    Raises:
        OperatorError: the folder has no photos.
    """
    entries = (path for path in sorted(photos.glob("*")) if not is_foreign(path.name))
    files = [path for path in entries if path.suffix.lower() in SUFFIXES]
    if not files:
        raise OperatorError(f"{photos}: found no jpg, png or bmp; name a folder with --photos")
    return Target(**vars(endpoint), bodies=[_body(file) for file in files])


def _body(file: Path) -> bytes:
    return orjson.dumps({"image": base64.b64encode(file.read_bytes()).decode("ascii")})


def _loads(connections: str, rate: float | None, processes: int) -> list[tuple[str, float, Pacing]]:
    """Name, level and pacing of each load."""
    levels = [part.strip() for part in connections.split(",") if part.strip()]
    if not all(level.isdigit() and 0 < int(level) <= 1024 for level in levels):
        raise click.UsageError(f"--connections {connections!r}: expected numbers from 1 to 1024")
    loads: list[tuple[str, float, Pacing]] = [
        (pluralise(level, "connection"), level, ClosedLoop(level)) for level in map(int, levels)
    ]
    if rate is not None:
        loads.append((f"{rate:g} requests/s", rate, OpenLoop(rate, processes)))
    if not loads:
        raise click.UsageError("nothing to do: --connections is empty, and there is no --rate")
    return loads


def _check(target: Target) -> None:
    """Require results, so as not to measure how fast a server fails."""
    body, headers = target.post(target.bodies[0])
    if code := find_error_code(body):
        problem = f"answers error {code}: {headers.get('X-Error-Detail', '')}".rstrip(": ")
        hint = "--token-file" if code == AuthFailed.error_code else "URL"
        raise OperatorError(f"{target.url} {problem}; check the {hint}")
    if not run_load(target, ClosedLoop(1), 1).answered():
        raise OperatorError(f"{target.url} answers with no result; check the URL")


def _facts(target: Target) -> list[tuple[str, str]]:
    libraries = library_versions(("classifyd", "openvino", "torch"))
    kilobytes = [len(body) // 1000 for body in target.bodies]
    return [
        ("time", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())),
        ("server", describe_server(target)),
        ("client CPU", cpu_model()),
        ("usable client CPUs", str(usable_cpus())),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("client libraries", ", ".join(f"{key} {text}" for key, text in libraries.items() if text)),
        ("bodies", f"{len(kilobytes)}, of {min(kilobytes)} to {max(kilobytes)} kB, in turn"),
    ]


def _progress(name: str) -> Progress:
    def show(results: int, elapsed_s: float) -> None:
        show_status(f"{name}: {elapsed_s:.0f} s, {results / elapsed_s:.1f} results/s", ending="")

    return show


def _write_report(path: Path, found: Report) -> None:
    files = {
        name: _write(path, f"-{name}.svg", standalone(chart)).name
        for name, chart in charts(found).items()
    }
    _write(path, ".md", to_markdown(found, files))
    written = _write(path, ".html", to_html(found))
    print(f"{written}: written, and {path.name}.md with the same content", file=sys.stderr)


def _write(path: Path, suffix: str, text: str) -> Path:
    file = path.with_name(path.name + suffix)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return file
