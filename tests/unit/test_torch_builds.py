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
from tests.support.lowest import read_requirements
from tests.support.program import run_program

CUDA = ("nvidia-cublas==13.0",)


def _write_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> None:
    """Write a wheel of metadata, and a file of 3 MB."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    data = f"{stem}.data.bin"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", tag)
        wheel.writestr(data, bytes(3 * 2**20))
        wheel.writestr(f"{stem}.dist-info/RECORD", f"{data},,{3 * 2**20}\n")


def _write_wheels(folder: Path, torch_requires: Sequence[str]) -> None:
    pins = (PROJECT_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.lower().replace("_", "-").split("==") for line in pins if "==" in line)
    names = {requirement.name.lower() for requirement in read_requirements([])} | {"setuptools"}
    for name in names:
        _write_wheel(folder, name, versions[name], torch_requires if name == "torch" else ())
    _write_wheel(folder, "nvidia-cublas", "13.0")


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
    _write_wheels(wheels, requires)
    ended = subprocess.run(
        [PROJECT_ROOT / "deploy/bundle.sh", sys.executable, out, tmp_path / "weights", flavour],
        env=os.environ | {"BUNDLE_EXTRAS": "", "PIP_ARGS": f"--no-index --find-links {wheels}"},
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
    _write_wheel(tmp_path, "torch", "2.13.0", requires)
    _write_wheel(tmp_path, "nvidia-cublas", "13.0")
    for wheel in tmp_path.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import sys; sys.stderr = sys.stdout; from app.system.cuda_build import main; main()"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    output = run_program(program, environment=environment)
    assert told in output
    assert bool(told) == bool(output)
