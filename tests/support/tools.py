"""Programs and packages that only some tests need."""

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

_SEARCH_PATH = os.pathsep.join(
    [
        str(Path(sys.executable).parent),  # programs from the extras
        os.environ.get("PATH", os.defpath),
        "/usr/sbin",  # on Debian, only root has it in PATH
    ]
)


def find_program(name: str) -> str:
    """Return a program's path; skip the calling test or module if it is not installed."""
    found = shutil.which(name, path=_SEARCH_PATH)
    if found is None:
        skip_without(name)
    return found


def import_package(name: str) -> Any:
    """Import a module of an extra; skip the calling module if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        skip_without(name.partition(".")[0])


def skip_without(tool: str) -> NoReturn:
    """Skip; with ``REQUIRE_TOOLS`` in the environment, as in CI, fail instead."""
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(f"needs {tool}")
    pytest.skip(f"needs {tool}", allow_module_level=True)
