"""``classifyd logs``: find requests in the JSON log again."""

import datetime
import gzip
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson

from app.errors import OperatorError
from app.settings import CONFIG_KEY, read_settings

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class DesiredVersion:
    """Which lines to show; None asks for nothing.

    Attributes:
        log_id: of the request, whose traceback is shown too.
        code: the answered error_code, 0 for results.
        name: the deploy name.
        since: the earliest time.
    """

    log_id: int | None
    code: int | None
    name: str | None
    since: datetime.datetime | None

    def covers(self, line: dict[str, Any]) -> bool:
        """Whether a line is to be shown."""
        if self.since and datetime.datetime.fromisoformat(line["time"]) < self.since:
            return False
        if self.log_id is not None:
            return line.get("log_id") == self.log_id or _failed(line) == self.log_id
        return (
            line.get("message") == "request"
            and self.code in (None, line.get("code"))
            and self.name in (None, line.get("deploy_name"))
        )


def _failed(line: dict[str, Any]) -> int:
    """The log_id of a line that holds a traceback."""
    match = re.fullmatch(r"log_id (\d+) failed", str(line.get("message")))
    return int(match[1]) if match else 0


@click.command()
@click.argument("log_id", required=False, type=click.IntRange(min=1))
@click.option("--code", type=int, help="only this error_code, 0 for results")
@click.option("--name", help="only this deploy name")
@click.option("--since", metavar="TIME", help="such as 30m, 2h, 7d or 2026-01-31T08:00")
@click.option("--file", "given", metavar="FILE", help="the log, - for standard input")
@click.option("--config", metavar="FILE", help="TOML file with settings")
@click.option("--json", "as_json", is_flag=True, help="print the lines as they are")
def logs(
    log_id: int | None,
    code: int | None,
    name: str | None,
    since: str | None,
    given: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Find requests in the JSON log: by LOG_ID, by code, by name, by time.

    Without --file it reads the log_file of the settings, with what was rotated. For a log
    that systemd keeps: journalctl -u classifyd -o cat | classifyd logs --file - LOG_ID
    """
    wanted = DesiredVersion(log_id, code, name, _moment(since) if since else None)
    found = 0
    for raw, line in _lines(given, config):
        if wanted.covers(line):
            found += 1
            print(raw.decode().rstrip("\n") if as_json else _as_text(line))
    if not found:
        print("classifyd: no such request is in the log", file=sys.stderr)
        sys.exit(1)


def _moment(text: str) -> datetime.datetime:
    now = datetime.datetime.now().astimezone()
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except ValueError as exc:
        raise click.UsageError(
            f"--since {text!r}: expected such as 30m, 2h, 7d or 2026-01-31T08:00"
        ) from exc


def _lines(given: str | None, config: str | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    if given == "-":
        yield from _parse(sys.stdin.buffer)
        return
    path = Path(given) if given else _configured(config)
    for file in [*_rotated(path), path]:
        try:
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
                yield from _parse(stream)
        except OSError as exc:
            raise OperatorError(f"{file} cannot be read: {exc.strerror or exc}") from exc


def _configured(config: str | None) -> Path:
    environment = {**os.environ, CONFIG_KEY: config} if config else os.environ
    path = read_settings(environment).settings.log_file
    if path is None:
        raise OperatorError(
            "setting log_file is not set: the log goes to standard error; name a file with "
            "--file, or pipe it in: journalctl -u classifyd -o cat | classifyd logs --file -"
        )
    return path


def _rotated(path: Path) -> list[Path]:
    """What was renamed by size (.1, .2) or by logrotate (-20260131, .gz), oldest first."""
    others = [
        other
        for other in path.parent.glob(f"{path.name}[.-]*")
        if re.fullmatch(r"[.-]\d+(\.gz)?", other.name.removeprefix(path.name))
    ]
    return sorted(others, key=lambda other: other.stat().st_mtime_ns)


def _parse(stream: Any) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The JSON objects of a log; other lines, such as of a start that failed, are passed over."""
    for raw in stream:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict) and "time" in line:
            yield raw, line


def _as_text(line: dict[str, Any]) -> str:
    shown = ("log_id", "code", "detail", "path", "image", "top", "token", "client", "total_ms")
    parts = [f"{key}={line[key]}" for key in shown if line.get(key) not in (None, "")]
    head = f"{line['time']} {line.get('level', '')} {line.get('message', '')}"
    text = " ".join([head, *parts])
    return f"{text}\n{line['traceback']}" if line.get("traceback") else text
