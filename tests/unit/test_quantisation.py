"""int8: really quantised, served only within the tolerance and on request."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.errors import PackageError
from app.inference.engines import openvino
from app.inference.tuning.candidates import OPENVINO
from app.inference.tuning.comparison import select_engine
from app.inference.tuning.selection import EngineRequirements, SelectionStore
from app.inference.tuning.tuner import tune_in_process
from app.packages.package import load_package
from app.settings import PROJECT_ROOT
from tests.support.models import build_sharp_package
from tests.support.packages import build_colour_package
from tests.support.program import run_program

LOOSE = 0.3
REQUIREMENTS = EngineRequirements(
    engine="auto", precision="int8", device="cpu", threads=1, tolerance=1.0
)
needs_nncf = pytest.mark.skipif(
    not (openvino.is_installed() and find_spec("nncf")), reason="needs nncf and openvino"
)


def tune(weights: Path, home: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    home.mkdir()
    folders = ("--weights-dir", str(weights), "--state-dir", str(home.parent / "state"))
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "tune", *folders, "--precision", "int8", *options],
        cwd=PROJECT_ROOT,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_nncf
def test_int8_serves_a_package_whose_tolerance_it_meets(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path / "w", tolerance=LOOSE)
    ended = tune(folder.parent.parent, tmp_path / "home", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)["sharp"]
    assert (found["precision"], found["engine"]) == ("int8", OPENVINO)
    # Really quantised: the scores have changed, by more than float32 would.
    assert all(0.005 < row["difference"] <= LOOSE for row in found["measurements"])
    # NNCF would have left a client number here before it reported to anybody.
    assert not list((tmp_path / "home").iterdir())


@needs_nncf
def test_int8_is_refused_with_the_difference_where_the_tolerance_is_strict(
    tmp_path: Path,
) -> None:
    folder = build_sharp_package(tmp_path / "w")
    ended = tune(folder.parent.parent, tmp_path / "home")
    assert ended.returncode == 3
    assert "differs by 0.0" in ended.stderr
    assert "more than 0.005 (the package's tolerance)" in ended.stderr
    assert "Traceback" not in ended.stderr


@needs_nncf
def test_a_worker_runs_int8_without_what_made_it(tmp_path: Path) -> None:
    package = load_package(build_sharp_package(tmp_path / "w", tolerance=LOOSE))
    tune_in_process(package, REQUIREMENTS, tmp_path)
    selection = SelectionStore(tmp_path, package, REQUIREMENTS).read()
    assert selection is not None
    program = (
        "import sys; from pathlib import Path\n"
        "from app.inference.tuning.selection import EngineRequirements\n"
        "from app.inference.tuning.loader import TunedLoader\n"
        "from app.inference.golden.check import *\n"
        "from app.packages.package import load_package\n"
        "package = load_package(Path(sys.argv[1]))\n"
        "requirements = EngineRequirements('auto', 'int8', 'cpu', 1, 1.0)\n"
        "engine = TunedLoader(requirements, Path(sys.argv[2])).load(package).engine\n"
        "print(engine.name, measure_golden(package, package.golden, engine).worst_difference)\n"
        "print([name for name in sys.modules if 'nncf' in name])\n"
    )
    engine, modules = run_program(program, package.folder, tmp_path).splitlines()
    assert engine.split()[0] == "openvino-int8"
    assert float(engine.split()[1]) == pytest.approx(selection.measurements[0].difference, abs=1e-3)
    assert modules == "[]"


def test_a_package_without_samples_is_told_to_get_some(tmp_path: Path) -> None:
    package = load_package(build_colour_package(tmp_path / "w", "colours", ["a", "b", "c"]))
    if not openvino.is_installed():
        pytest.skip("needs openvino")
    with pytest.raises(PackageError, match=r"it has none: build it again with photos .*--golden"):
        select_engine(package, REQUIREMENTS, tmp_path, lambda _: None)


@pytest.mark.parametrize("change", [{"engine": "torchscript"}, {"device": "cuda:0"}], ids=str)
def test_int8_elsewhere_is_refused_with_what_to_set(tmp_path: Path, change: dict[str, str]) -> None:
    package = load_package(build_colour_package(tmp_path / "w", "colours", ["a", "b", "c"]))
    requirements = replace(REQUIREMENTS, **change)  # type: ignore[arg-type]  # by name
    with pytest.raises(PackageError, match="no engine computes int8 .* set device = cpu"):
        select_engine(package, requirements, tmp_path, lambda _: None)
