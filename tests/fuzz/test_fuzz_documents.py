"""A short run of the fuzzer; ``python -m tests.fuzz.fuzz_documents`` is the full one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.tools import import_package

import_package("atheris")

RUNS = 4000


@pytest.mark.parametrize("target", ["request", "manifest"])
def test_no_document_raises_an_undocumented_error(target: str, tmp_path: Path) -> None:
    options = ["--runs", str(RUNS), "--seed", "17", "--corpus", str(tmp_path)]
    command = [sys.executable, "-m", "tests.fuzz.fuzz_documents", target, *options]
    ended = subprocess.run(
        # A child of a shell: libFuzzer would take the peak memory of this process, which execve(2)
        # leaves in ru_maxrss (getrusage(2)), for its own.
        ["sh", "-c", '"$@" & wait $!', "sh", *command],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    # Mutations that are refused alike would test nothing.
    found = re.search(r"new_units_added: *(\d+)", ended.stderr)
    assert found
    assert int(found[1]) > 20
