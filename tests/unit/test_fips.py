"""FIPS mode, in which the OpenSSL of OpenCV's wheel would end the process."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.settings import PROJECT_ROOT
from app.system.fips import FIPS_VARIABLE, opencv_contains_openssl_1
from tests.support.wheels import renew_sums

FORCED = os.environ | {FIPS_VARIABLE: "1"}


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=PROJECT_ROOT, env=FORCED, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not opencv_contains_openssl_1(), reason="OpenCV contains no OpenSSL 1.1.1")
@pytest.mark.parametrize("arguments", [["app.cli", "doctor"], ["app.cli", "serve"], ["gunicorn"]])
def test_fips_mode_is_told_instead_of_an_abort(arguments: list[str]) -> None:
    assert _run([sys.executable, "-c", "import cv2"]).returncode < 0
    ended = _run([sys.executable, "-m", *arguments])
    assert ended.returncode in {1, 3}
    assert f"FIPS mode is on (the environment variable {FIPS_VARIABLE})" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("library", "told"),
    [
        ("opencv_python_headless.libs/libcrypto-5409cd36.so.1.1.1k", "failure  FIPS mode is on"),
        ("cv2/cv2.abi3.so", "ok       FIPS mode"),
    ],
)
def test_the_installer_looks_into_the_wheel(tmp_path: Path, library: str, told: str) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels/opencv_python_headless-5.0-py3.whl", "w") as wheel:
        wheel.writestr(library, b"library")
    release = {"RELEASE": "1", "FLAVOUR": "cpu", "EXTRAS": "", "ARCHITECTURE": os.uname().machine}
    (tmp_path / "RELEASE").write_text("".join(f"{key}={value}\n" for key, value in release.items()))
    (tmp_path / "PYTHONS").write_text("3.11 2.28 - 1\n")
    for name in ("install.sh", "release/deploy/classifydctl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / "deploy" / Path(name).name, tmp_path / name)
    renew_sums(tmp_path)
    ended = _run(["bash", str(tmp_path / "install.sh"), "--check-only", "--unsigned"])
    assert told in ended.stdout
