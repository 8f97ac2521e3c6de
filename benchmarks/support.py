"""What the benchmarks share: their options, reports and statistics, and names of the project.

The names of ``app`` that all of them use are imported here and nowhere else in this folder.
"""

import argparse
import base64
import json
import os
import platform
import resource
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.bench.connections import Target
from app.bench.load import ClosedLoop, OpenLoop, run_load
from app.bench.report import percentile
from app.bench.result import NO_ANSWER, LoadResult
from app.cli.output import clear_status, show_status
from app.reporting.charts import line_plot, standalone
from app.reporting.counts import pluralise
from app.settings import PROJECT_ROOT
from app.system.cpus import cpu_model, usable_cpus

__all__ = [
    "NO_ANSWER",
    "PATH",
    "PHOTO",
    "PROJECT_ROOT",
    "LoadResult",
    "Target",
    "allow_many_files",
    "clear_status",
    "ClosedLoop",
    "codes",
    "describe_machine",
    "make_parser",
    "median_ratio",
    "OpenLoop",
    "percentile",
    "photo_body",
    "line_plot",
    "pluralise",
    "run_load",
    "publish",
    "show_status",
    "standalone",
    "table",
]

PATH = "/imagenet/ImageClassification"
PHOTO = PROJECT_ROOT / "tests/photos/coffee.jpg"
"""A request with it has a body of 140 kB."""


def make_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Make the parser of a benchmark, with the options that all of them have."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--setting",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the measured server of this project; may be given more than once",
    )
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=VALUE")
    return name, value


def publish(options: argparse.Namespace, text: str, figures: Mapping[str, Any]) -> None:
    """Print the figures as the options ask for them, under a description of the machine."""
    clear_status()
    if options.json:
        print(json.dumps({"machine": describe_machine(), **figures}, indent=2))
    else:
        print(f"{describe_machine()}\n\n{text}")


def describe_machine() -> str:
    """Name the processor, the usable CPUs, Python, and how busy the machine has been."""
    return (
        f"{cpu_model()}, {usable_cpus()} CPUs; Python {platform.python_version()}; "
        f"load average {os.getloadavg()[2]:.1f} over 15 min"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table whose columns are also aligned as plain text."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    formatted = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    return "\n".join([formatted[0], rule, *formatted[1:]])


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios of pairs: machines drift, and a pair shares its minute."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(a / b if b else 0.0 for a, b in pairs)


def codes(result: LoadResult) -> str:
    """How often each error_code came, such as ``336100: 12``; an empty string for none."""
    counts = {code: len(times) for code, times in sorted(result.latencies_ms.items()) if code}
    return ", ".join(
        f"{'no answer' if code == NO_ANSWER else code}: {n}" for code, n in counts.items()
    )


def photo_body(photo: Path = PHOTO) -> bytes:
    """The JSON body of a request with an image file."""
    return json.dumps({"image": base64.b64encode(photo.read_bytes()).decode()}).encode()


def allow_many_files() -> None:
    """Let this process and its children open as many files as the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
