"""Licences from the command line: publisher, customer and ``classifyd doctor``."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from tests.support.packages import build_colour_package
from tests.support.server import free_port

COFFEE = PROJECT_ROOT / "tests/photos/coffee.jpg"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def ok(*arguments: object) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path: Path) -> list[str]:
    """The customer's settings as options."""
    folders = {"weights-dir": "weights", "state-dir": "state", "licence-dir": "licences"}
    options = [part for key, name in folders.items() for part in (f"--{key}", str(tmp_path / name))]
    return [*options, "--port", str(free_port())]


def test_a_licence_is_requested_issued_and_installed(tmp_path: Path, here: list[str]) -> None:
    key, fingerprint = tmp_path / "publisher.key", tmp_path / "fingerprint.json"
    licence = tmp_path / "licences" / "pets.licence"
    licence.parent.mkdir()
    source = build_colour_package(tmp_path / "open", "pets", ["red", "green", "blue"])

    ok("licence", "keygen", "--key", key)
    assert key.stat().st_mode & 0o077 == 0
    sealing = ("--key", key, "--contact", "Example <a@example.com>")
    ok("licence", "seal", source, *sealing, "--weights-dir", tmp_path / "weights")
    ok("licence", "fingerprint", "--out", fingerprint, *here)

    before = run("licence", "check", *here)
    assert before.returncode == 1
    assert "a@example.com" in before.stdout
    assert run("doctor", *here).returncode == 1
    locked = run("tune", *here)
    assert locked.returncode == 1
    assert "skipped: " in locked.stderr

    grant = ("--key", key, "--licensee", "Kunde 客户", "--name", "pets", "--trial")
    ok("licence", "issue", fingerprint, *grant, "--out", licence)
    assert "Kunde 客户" in ok("licence", "show", licence)
    standing = json.loads(ok("licence", "check", "--json", *here))["pets"]
    assert (standing["state"], standing["days_left"]) == ("valid", 30)
    assert set(standing["matches"].values()) == {"matched"}

    report = ok("doctor", *here, "--bundle", tmp_path / "support.tar.gz")
    assert "pets: 30 days left" in report
    with tarfile.open(tmp_path / "support.tar.gz") as archive:
        names = {Path(name).name for name in archive.getnames()}
    expected = "findings.json settings.json readyz.json manifests.json machine.json log.txt"
    assert names == set(expected.split())


def test_a_second_key_never_overwrites_the_first(tmp_path: Path) -> None:
    key = tmp_path / "publisher.key"
    ok("licence", "keygen", "--key", key)
    before = key.read_bytes()
    again = run("licence", "keygen", "--key", key)
    assert again.returncode == 3
    assert "exists already" in again.stderr
    assert key.read_bytes() == before


def test_a_gpu_that_is_not_in_the_fingerprint_is_refused(tmp_path: Path, here: list[str]) -> None:
    key, fingerprint = tmp_path / "publisher.key", tmp_path / "fingerprint.json"
    ok("licence", "keygen", "--key", key)
    ok("licence", "fingerprint", "--out", fingerprint, *here)
    grant = ("--key", key, "--licensee", "A", "--name", "pets", "--permanent", "--device", "gpu")
    done = run("licence", "issue", fingerprint, *grant, "--card", "7")
    assert done.returncode == 3
    assert "--card" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["verify", "predict", "evaluate", "tune"])
def test_a_sealed_package_runs_from_the_command_line_only_with_its_licence(
    tmp_path: Path, here: list[str], command: str
) -> None:
    key, fingerprint = tmp_path / "publisher.key", tmp_path / "fingerprint.json"
    source = build_colour_package(tmp_path / "open", "pets", ["red", "green", "blue"])
    sealing = ("--key", key, "--contact", "Example <a@example.com>")
    ok("licence", "keygen", "--key", key)
    ok("licence", "seal", source, *sealing, "--weights-dir", tmp_path / "weights")
    (tmp_path / "data" / "red").mkdir(parents=True)
    photo = shutil.copy(COFFEE, tmp_path / "data" / "red")
    folder, settings = tmp_path / "weights/pets/1", here[2:6]
    arguments = {
        "verify": ("package", "verify", folder, *settings),
        "predict": ("predict", "--package", folder, photo, *settings),
        "evaluate": ("evaluate", folder, tmp_path / "data", "--reference", *settings),
        "tune": ("tune", "pets", *here),
    }[command]
    if command == "evaluate":
        arguments += ("--report", tmp_path / "report.html")

    ok("licence", "fingerprint", "--out", fingerprint, *here)
    before = run(*arguments)
    assert before.returncode == 3
    assert before.stderr.count("\n") == 1
    for text in ("the package is sealed", "no licence for this deploy name", "a@example.com"):
        assert text in before.stderr

    grant = ("--key", key, "--licensee", "A", "--name", "pets", "--permanent")
    (tmp_path / "licences").mkdir()
    ok("licence", "issue", fingerprint, *grant, "--out", tmp_path / "licences/pets.licence")
    assert ok(*arguments)


def test_tune_skips_packages_without_a_licence(tmp_path: Path, here: list[str]) -> None:
    key = tmp_path / "publisher.key"
    source = build_colour_package(tmp_path / "open", "pets", ["red", "green", "blue"])
    build_colour_package(tmp_path / "weights", "colours", ["red", "green", "blue"])
    ok("licence", "keygen", "--key", key)
    sealing = ("--key", key, "--contact", "A")
    ok("licence", "seal", source, *sealing, "--weights-dir", tmp_path / "weights")
    done = run("tune", "--json", *here)
    assert done.returncode == 0
    measured = json.loads(done.stdout)
    assert list(measured) == ["colours"]
    assert all(row["ms"] > 0 for row in measured["colours"]["measurements"])
    assert "skipped" in done.stderr
    assert "pets/1: licence: the package is sealed" in done.stderr


def test_doctor_names_a_wrong_setting(tmp_path: Path) -> None:
    done = run("doctor", "--port", "zero")
    assert done.returncode == 1
    assert "setting port" in done.stdout
