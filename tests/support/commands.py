"""The ``classifyd`` command in a separate process, as an operator runs it."""

import subprocess
import sys

from app.settings import PROJECT_ROOT

TIMEOUT_S = 300


def run_classifyd(*arguments: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run a command; require its exit status and no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", *map(str, arguments)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended
