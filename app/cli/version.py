"""``classifyd --version``."""

import platform
import subprocess
from pathlib import Path

import click

from app.folders import PROJECT_ROOT
from app.inference.tuning.selection import library_versions

COMMIT_FILE = PROJECT_ROOT / "app/commit.txt"
"""Written by setup.py into a wheel and by deploy/bundle.sh into a release."""

LIBRARIES = {"torch": "torch", "OpenVINO": "openvino", "OpenCV": "opencv-python-headless"}


def describe_versions() -> dict[str, str]:
    """Name the versions that an answer depends on, without importing a library."""
    found = library_versions(["classifyd", *LIBRARIES.values()])
    libraries = {name: found[wheel] or "not installed" for name, wheel in LIBRARIES.items()}
    own = {"classifyd": found["classifyd"], "commit": _commit()}
    return own | libraries | {"Python": platform.python_version()}


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the versions and end, for the option ``--version``."""
    if wanted and not context.resilient_parsing:
        for name, version in describe_versions().items():
            print(f"{name:<10} {version}")
        context.exit()


def _commit() -> str:
    if COMMIT_FILE.exists():
        return COMMIT_FILE.read_text(encoding="utf-8").strip()
    return _commit_of(PROJECT_ROOT) if (PROJECT_ROOT / ".git").exists() else "unknown"


def _commit_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=8"]
    try:
        described = subprocess.run(  # noqa: S603 - git with fixed arguments
            [*command, "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
