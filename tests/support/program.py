"""Short Python programs in a new process."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from app.settings import PROJECT_ROOT


def run_program(
    program: str, *arguments: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its output; it must succeed.

    Args:
        program: its text.
        arguments: its ``sys.argv`` from 1 on.
        environment: its only environment variables; None for those of this process.
    """
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout
