"""What commands write: JSON to standard output, files, progress to a terminal."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.errors import OperatorError


def print_json(document: object) -> None:
    """Print a document as indented JSON."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_result(document: object, text: str, as_json: bool) -> None:
    """Print one line: a document as JSON for a script, or its text for a person."""
    print(json.dumps(document, ensure_ascii=False) if as_json else text)


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print names and values, one per line, or as JSON."""
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}} {', '.join(map(str, value)) if isinstance(value, list) else value}")


def print_columns(rows: Sequence[Sequence[object]]) -> None:
    """Print rows with columns of one width each, and no space at the end of a line."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file if a block cannot write it.

    Raises:
        OperatorError: in place of an OSError.
    """
    try:
        yield
    except OSError as exc:
        raise OperatorError(f"{path} cannot be written: {exc.strerror}") from exc


def report_progress(line: str) -> None:
    """Write a line to standard error if it is a terminal."""
    if sys.stderr.isatty():
        print(f"{line} ...", file=sys.stderr, flush=True)


def show_status(text: str, ending: str = " ...") -> None:
    """Replace the last line of the terminal; call clear_status before other output."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}{ending}", end="", file=sys.stderr, flush=True)


def clear_status() -> None:
    """Erase the line of show_status."""
    show_status("", ending="")
