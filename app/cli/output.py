"""Lines that say what takes its time: on a terminal, not in a pipe."""

import sys


def report_progress(line: str) -> None:
    """Write a line to standard error when somebody looks at it."""
    if sys.stderr.isatty():
        print(f"{line} ...", file=sys.stderr, flush=True)


def show_status(text: str, ending: str = " ...") -> None:
    """Replace the last line of the terminal; clear_status must come before other output."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}{ending}", end="", file=sys.stderr, flush=True)


def clear_status() -> None:
    """Take away what show_status has written."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
