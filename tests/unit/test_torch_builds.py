"""Which build of torch is installed or packed, seen from the metadata of its wheel."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from app.system.cuda_build import has_gpu
from tests.support.program import run_program
from tests.support.wheels import pinned_versions, write_required_wheels, write_wheel

CUDA = ("nvidia-cublas==13.0",)


@pytest.mark.parametrize(
    ("flavour", "requires", "told"),
    [
        ("cpu", CUDA, "this index gives the CUDA build of torch"),
        ("cuda", (), "FLAVOUR=cuda, but torch is not a CUDA build"),
        ("cpu", (), ""),
        ("cuda", CUDA, ""),
    ],
)
def test_a_bundle_is_made_only_with_the_build_of_its_flavour(
    tmp_path: Path, flavour: str, requires: Sequence[str], told: str
) -> None:
    wheels, out = tmp_path / "wheels", tmp_path / "out"
    wheels.mkdir()
    write_required_wheels(wheels)
    write_wheel(wheels, "torch", pinned_versions()["torch"], requires)
    write_wheel(wheels, "nvidia-cublas", "13.0")
    ended = subprocess.run(
        [PROJECT_ROOT / "deploy/bundle.sh", sys.executable, out, tmp_path / "weights", flavour],
        env=os.environ
        | {"BUNDLE_EXTRAS": "", "PYTHONS": "3.11", "KEY": ""}
        | {"PIP_ARGS": f"--no-index --find-links {wheels}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in ended.stderr
    assert ended.returncode == bool(told), ended.stderr
    assert len(list(out.glob("*.tar"))) == (not told)


@pytest.mark.skipif(has_gpu(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(("requires", "told"), [(CUDA, "CUDA build: 6 MB here"), ((), "")])
def test_the_cuda_build_without_a_gpu_is_told_with_its_size(
    tmp_path: Path, requires: Sequence[str], told: str
) -> None:
    write_wheel(tmp_path, "torch", "2.13.0", requires)
    write_wheel(tmp_path, "nvidia-cublas", "13.0")
    for wheel in tmp_path.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import sys; sys.stderr = sys.stdout; from app.system.cuda_build import main; main()"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    output = run_program(program, environment=environment)
    assert told in output
    assert bool(told) == bool(output)
