"""The program as a wheel, installed beside the libraries of this environment."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from app.settings import PROJECT_ROOT

SOURCES = ("app", "setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE")
"""What a wheel is built from."""


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources, so that the checkout stays as it is."""
    for name in SOURCES:
        source, copy = PROJECT_ROOT / name, folder / "sources" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    _pip("wheel", *offline, "--wheel-dir", folder / "dist", folder / "sources")
    (wheel,) = (folder / "dist").iterdir()
    return wheel


def install_wheel(wheel: Path, environment: Path) -> Path:
    """Install a wheel into a new environment; return the folder of its commands."""
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    _pip("--python", python, "install", "--no-index", "--no-deps", wheel)
    # The libraries of this environment, without its own classifyd: .pth files are not read there.
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *map(str, arguments)], check=True)
