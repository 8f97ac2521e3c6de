"""``classifyd logs``: find requests in the JSON log."""

import datetime
import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson

from app.cli.calling import locate
from app.cli.options import options_of, resolve_options
from app.errors import FailedError, OperatorError
from app.observability.log_format import escape_unprintable
from app.observability.log_ids import MAX_BLOCK, origin_of

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FIRST_S = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
_SHOWN = ("log_id", "code", "detail", "path", "image", "top", "token", "client", "total_ms")


@click.command()
@click.argument("log_id", required=False, type=click.IntRange(min=1))
@click.option("--code", type=int, help="only this error_code, 0 for results")
@click.option("--name", help="only this deploy name")
@click.option("--since", metavar="TIME", help="such as 30m, 2h, 7d or 2026-01-31T08:00")
@click.option("--file", "source", metavar="FILE", help="the log, - for standard input")
@options_of("state_dir")
@click.option("--json", "as_json", is_flag=True, help="print the unchanged lines")
def logs(
    log_id: int | None,
    code: int | None,
    name: str | None,
    since: str | None,
    source: str | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Find requests in the JSON log by LOG_ID, code, deploy name or time.

    Without --file it reads the log_file of the running server or of the settings, or else
    classifyd.log in state_dir, and its rotated files. The exit status is 1 if there is no such
    request.

    \b
    Examples:
        classifyd logs --code 336100 --since 2h
        journalctl -u classifyd -o cat | classifyd logs --file - 12345678901234
    """
    earliest = _parse_time(since) if since else None
    found = False
    for raw, line in _read_lines(source, options):
        if _is_selected(line, log_id, code, name, earliest):
            found = True
            print(raw.decode().rstrip("\n") if as_json else _as_text(line))
    if not found:
        raise FailedError(f"the log has no such request{_describe_origin(log_id)}")


def _is_selected(
    line: dict[str, Any],
    log_id: int | None,
    code: int | None,
    name: str | None,
    earliest: datetime.datetime | None,
) -> bool:
    """Whether a line matches every criterion that is not None; a log_id has its traceback too."""
    if earliest and datetime.datetime.fromisoformat(line["time"]) < earliest:
        return False
    message = str(line.get("message"))
    if log_id is not None:
        return line.get("log_id") == log_id or message == f"log_id {log_id} failed"
    is_matching = code in (None, line.get("code")) and name in (None, line.get("deploy_name"))
    return message == "request" and is_matching


def _describe_origin(log_id: int | None) -> str:
    """Where to look instead: the log may be that of another node, or begin later."""
    origin = origin_of(log_id or 0)
    # Smaller numbers are those of a proxy in front or of an early release.
    if not _FIRST_S < origin.time_s < MAX_BLOCK:
        return ""
    time = datetime.datetime.fromtimestamp(origin.time_s).astimezone()
    return f"; {log_id} is of node {origin.node}, {time.isoformat(timespec='seconds')} or later"


def _parse_time(text: str) -> datetime.datetime:
    now = datetime.datetime.now().astimezone()
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except ValueError as exc:
        raise click.UsageError(
            f"--since {text!r}: expected a time such as 30m, 2h, 7d or 2026-01-31T08:00"
        ) from exc


def _read_lines(
    source: str | None, options: dict[str, str | None]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    if source == "-":
        yield from _parse(sys.stdin.buffer)
        return
    path = Path(source) if source else _configured_log(options)
    for file in [*_rotated(path), path]:
        try:
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
                yield from _parse(stream)
        except OSError as exc:
            raise OperatorError(f"{file} cannot be read: {exc.strerror or exc}") from exc


def _configured_log(options: dict[str, str | None]) -> Path:
    settings = locate(resolve_options(options).settings)
    path = settings.log_path()
    if settings.log_file is None and not path.exists():
        raise OperatorError(
            f"no log is at {path}: the server has not run yet, or systemd keeps its log; then "
            "pipe it in: journalctl -u classifyd -o cat | classifyd logs --file -"
        )
    return path


def _rotated(path: Path) -> list[Path]:
    """Files rotated by size (.1, .2) or by logrotate (-20260131, .gz), oldest first."""
    others = [
        other
        for other in path.parent.glob(f"{path.name}[.-]*")
        if re.fullmatch(r"[.-]\d+(\.gz)?", other.name.removeprefix(path.name))
    ]
    return sorted(others, key=lambda other: other.stat().st_mtime_ns)


def _parse(stream: Any) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The JSON objects of a log; other lines, such as those of a failed start, are skipped."""
    for raw in stream:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict) and "time" in line:
            yield raw, line


def _as_text(line: dict[str, Any]) -> str:
    parts = [f"{key}={line[key]}" for key in _SHOWN if line.get(key) not in (None, "")]
    head = f"{line['time']} {line.get('level', '')} {line.get('message', '')}"
    text = escape_unprintable(" ".join([head, *parts]))
    traceback = escape_unprintable(line.get("traceback", ""), "\n")
    return f"{text}\n{traceback}" if traceback else text
