"""Lines that say what takes its time: on a terminal, not in a pipe."""

import sys


def report_progress(line: str) -> None:
    """Write a line to standard error when somebody looks at it."""
    if sys.stderr.isatty():
        print(f"{line} ...", file=sys.stderr, flush=True)
