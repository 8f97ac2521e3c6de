"""``make run``, ``make clean`` and the Python that make finds, in a copy of the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS, to_base64
from tests.support.packages import build_colour_package
from tests.support.server import Server
from tests.support.waiting import wait_until

OLD = "#!/bin/sh\nexit 1\n"
"""Fails, as an older Python does, or pyenv's python3.12 where no 3.12 is chosen."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile and an installed environment."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(PROJECT_ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


class _MakeRun(Server):
    """A server that ``make run`` starts."""

    def start(self) -> None:
        """Start it, with what is installed."""
        environment = self._environment | {"PYTHONPATH": str(PROJECT_ROOT)}
        with self.log_path.open("ab") as log, self.stdout_path.open("ab") as out:
            self.process = subprocess.Popen(
                ["make", "--assume-old=.venv/.installed", "run"],
                cwd=self.log_path.parent.parent,
                env=environment,
                stdout=out,
                stderr=log,
            )


@pytest.mark.weights
def test_make_run_keeps_a_log_and_leaves_the_demo_removed(checkout: Path) -> None:
    weights, state = checkout / "weights", checkout / "var"
    (checkout / "docs").symlink_to(PROJECT_ROOT / "docs")
    weights.mkdir()
    state.mkdir()
    photo = {"image": to_base64((PHOTOS / "coffee.jpg").read_bytes())}
    with _MakeRun(weights, state) as server:
        answer = server.classify("imagenet", photo)
        assert answer.json["results"][0]["name"] == "espresso"
        log_id = str(answer.json["log_id"])
        log = state / "classifyd.log"
        wait_until(lambda: log_id in log.read_text(), server)
        config = checkout / "classifyd.toml"
        config.write_text('state_dir = "var"\n')
        assert f"log_id={log_id}" in run_classifyd("logs", "--config", config, log_id).stdout
        assert log_id in server.log_text()
    build_colour_package(weights, "colours", ["red", "green", "blue"])
    run_classifyd("package", "remove", "imagenet", "--all", "--weights-dir", weights)
    with _MakeRun(weights, state) as server:
        assert list(server.request("GET", "/readyz").json["serving"]) == ["colours"]


def test_make_clean_keeps_what_cannot_be_made_again(checkout: Path) -> None:
    made = ["weights/imagenet/1/manifest.json", "weights/.demo-built", "dist/a.tar"]
    made += [f"var/{name}" for name in ("engines/a", "metrics/b", "workers/c", "classifyd.log.1")]
    own = [f"var/{name}" for name in ("tokens.json", "cert.pem", "key.pem", "machine.key")]
    own += ["licences/pets.licence", "weights/pets/1/manifest.json"]
    for path in made + own:
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).touch()
    said = _make(checkout, "clean")
    left = [str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()]
    assert sorted(left) == sorted([*own, "Makefile"])
    assert said.splitlines()[-1] == "Kept in var/: cert.pem key.pem machine.key tokens.json "


def test_make_clean_keeps_own_versions_beside_the_demo(checkout: Path) -> None:
    for version in "12":
        (checkout / "weights" / "imagenet" / version).mkdir(parents=True)
    _make(checkout, "clean")
    assert sorted(path.name for path in (checkout / "weights/imagenet").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("newer", ["python3.12", "python3.13"])
def test_make_finds_a_newer_python_where_python3_is_older(checkout: Path, newer: str) -> None:
    programs = checkout / "bin"
    programs.mkdir()
    for program in ("make", "sh", "echo"):
        (programs / program).symlink_to(str(shutil.which(program)))
    for old in ("python3", "python3.11", "python3.12"):
        (programs / old).write_text(OLD)
        (programs / old).chmod(0o755)
    (programs / newer).unlink(missing_ok=True)
    (programs / newer).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / newer).chmod(0o755)
    shown = _make(checkout, "--eval=shown: ; @echo $(PYTHON)", "shown", PATH=str(programs))
    assert shown == f"{newer}\n"


def _outside_make() -> dict[str, str]:
    """The environment without what the make that runs the tests hands down."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def _make(folder: Path, *arguments: str, **environment: str) -> str:
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=_outside_make() | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
