"""The format of log lines: text on a terminal, otherwise one JSON object per line."""

import datetime
import json
import logging
import sys
from typing import Any

import orjson

from app.observability.log_file import RotatedFileHandler

_RESET, _RED, _YELLOW = "\x1b[0m", "\x1b[31m", "\x1b[33m"


def configure_logging(log_format: str, level: str, file: RotatedFileHandler | None = None) -> None:
    """Send all log records of the process to standard error, or to a file, or a copy to a file.

    The format is ``text``, ``json``, or ``auto``: text on a terminal, JSON otherwise. A copy is
    always JSON, as ``classifyd logs`` reads it.

    Until finish_start, errors go to standard error too, also with a file: a person or systemd
    that starts the server looks there.
    """
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(_formatter(log_format, sys.stderr.isatty()))
    root = logging.getLogger()
    for old in root.handlers:
        old.close()
    root.handlers[:] = [stderr]
    if file is not None:
        is_copy = file.is_copy
        file.setFormatter(JsonFormatter() if is_copy else _formatter(log_format, False))
        stderr.setLevel(logging.NOTSET if is_copy else logging.ERROR)
        root.handlers[:] = [file, stderr]
    root.setLevel(level.upper())
    # The caller's line and thread take longer than the rest of a record, and no formatter
    # here prints them.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = False


def finish_start() -> None:
    """Stop writing to standard error if a log file takes its place: the process has started."""
    handlers = logging.getLogger().handlers
    if isinstance(handlers[0], RotatedFileHandler) and not handlers[0].is_copy:
        del handlers[1:]


def _formatter(log_format: str, is_terminal: bool) -> logging.Formatter:
    is_text = log_format == "text" or (log_format == "auto" and is_terminal)
    return TextFormatter(is_terminal) if is_text else JsonFormatter()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; see the class."""
        line: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            text = orjson.dumps(line, default=str).decode()
        except TypeError:
            # Of a file name that is not UTF-8, for example: orjson refuses lone surrogates.
            text = json.dumps(line, default=str)
        return escape_unprintable(text)


class TextFormatter(logging.Formatter):
    """Time, level and message, then the record's non-empty fields as ``name=value``."""

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colours = {"WARNING": _YELLOW, "ERROR": _RED} if colour else {}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; see the class."""
        fields = getattr(record, "fields", {})
        pairs = [f"{key}={_plain(value)}" for key, value in fields.items() if value]
        message = escape_unprintable(record.getMessage(), "\n").replace("\n", "\n    ")
        text = " ".join([_timestamp(record), record.levelname.lower(), message, *pairs])
        if record.exc_info:
            text += "\n" + escape_unprintable(self.formatException(record.exc_info), "\n")
        colour = self._colours.get(record.levelname)
        return f"{colour}{text}{_RESET}" if colour else text


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created).astimezone()
    return moment.isoformat(timespec="milliseconds")


def _plain(value: Any) -> str:
    """Format a field on one line, so that a client cannot forge a second log line."""
    if isinstance(value, dict):
        return ",".join(f"{key}:{_plain(inner)}" for key, inner in value.items())
    text = str(value)
    is_bare = text.isprintable() and " " not in text
    return text if is_bare else escape_unprintable(json.dumps(text, ensure_ascii=False))


def escape_unprintable(text: str, keep: str = "") -> str:
    r"""Escape control characters, line separators and marks that change the direction of text.

    A terminal or a reader of lines would act on them, so that a client could forge or hide a
    part of the log. As in JSON, ``\uXXXX`` is written for each.

    Args:
        text: may come from a client.
        keep: characters to leave in place.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[i : i + 4]}" for i in range(0, len(code), 4))
