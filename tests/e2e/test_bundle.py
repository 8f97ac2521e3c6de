"""A small bundle, from ``bundle.sh`` to the checks of ``install.sh`` and ``classifydctl``."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from app.packages.signing import fingerprint, read_private_key
from app.settings import PROJECT_ROOT
from tests.support.keys import write_key
from tests.support.packages import build_colour_package
from tests.support.wheels import pinned_versions, renew_sums, write_required_wheels, write_wheel

PARTS = (
    *("app", "docs", "deploy", "setup.cfg", "setup.py", "pyproject.toml", "constraints.txt"),
    *("wsgi.py", "gunicorn.conf.py", "LICENSE", "README.md", "tests/photos/coffee.jpg"),
)
COMMIT = ("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "all")
ARCHITECTURE = platform.machine()


@dataclass(frozen=True)
class Made:
    """What ``bundle.sh`` made in two folders: the archives, what was said, and the key."""

    archives: tuple[Path, Path]
    said: str
    key: Path


def _copy_checkout(target: Path) -> Path:
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, tracked.stdout.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT_ROOT / name, target / name)
    dates = {
        "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z",
        "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
    }
    for command in (("init", "-q"), ("add", "-A"), COMMIT):
        subprocess.run(["git", *command], cwd=target, env=os.environ | dates, check=True)
    return target


def _write_wheels(folder: Path) -> Path:
    """Wheels with torch for CPUs for Python 3.11 and 3.12, and with OpenVINO for 3.11 alone."""
    folder.mkdir()
    write_required_wheels(folder, size=1000)
    torch = pinned_versions()["torch"]
    for python, requires in (("311", ()), ("312", ()), ("313", ("nvidia-cublas",))):
        tag = f"cp{python}-cp{python}-manylinux_2_28_{ARCHITECTURE}"
        # pip must not take the condition for that of the Python that runs it.
        added = ("for-312; python_version >= '3.12'", "for-311; python_version < '3.12'")
        write_wheel(folder, "torch", torch, (*requires, *added), tag, 1000)
    tag = f"cp311-cp311-manylinux_2_31_{ARCHITECTURE}"
    write_wheel(folder, "openvino", pinned_versions()["openvino"], (), tag, 1000)
    for name in ("nvidia-cublas", "for-311", "for-312"):
        write_wheel(folder, name, "1.0", size=1000)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same commit packed in two folders."""
    work = tmp_path_factory.mktemp("bundle")
    wheels = _write_wheels(work / "wheels")
    key = write_key(work / "publisher.key", work / "public")
    build_colour_package(work / "weights", "colours", ["red", "green", "blue"])
    environment = os.environ | {"PIP_ARGS": f"--no-index --find-links {wheels}", "KEY": str(key)}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PYTHONS": ""}
    said, archives = "", list[Path]()
    for name in ("here", "deep/there"):
        checkout = _copy_checkout(work / name)
        ended = subprocess.run(
            [checkout / "deploy/bundle.sh", sys.executable, work / name / "dist", work / "weights"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, said
        archives += (work / name / "dist").glob("*.tar")
    return Made((archives[0], archives[1]), said, key)


@pytest.fixture
def bundle(made: Made, tmp_path: Path) -> Path:
    """The unpacked bundle."""
    subprocess.run(["tar", "-C", tmp_path, "-xf", made.archives[0]], check=True)
    return next(tmp_path.glob("classifyd-*"))


@pytest.fixture
def check(tmp_path: Path, bundle: Path) -> Callable[..., str]:
    """``classifydctl check`` of a server whose kept key is in the folder ``etc``."""
    script = (PROJECT_ROOT / "deploy/classifydctl").read_text()
    (tmp_path / "ctl").write_text(script.replace("ETC=/etc/classifyd", f"ETC={tmp_path}/etc"))
    (tmp_path / "etc").mkdir()

    def run(*options: object, status: int = 1) -> str:
        ended = _run(["bash", tmp_path / "ctl", "check", bundle, *options])
        assert ended.returncode == status, ended.stderr
        return ended.stdout + ended.stderr

    return run


def _run(command: list[object], **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(each) for each in command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _sign(bundle: Path, key: Path) -> None:
    run = ["openssl", "pkey", "-in", key, "-pubout", "-out", bundle / "publisher.pem"]
    assert _run([*run]).returncode == 0
    renew_sums(bundle)
    run = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", bundle / "SHA256SUMS"]
    assert _run([*run, "-out", bundle / "SHA256SUMS.sig"]).returncode == 0


def test_the_same_commit_gives_the_same_bytes_in_another_folder(made: Made) -> None:
    one, other = (path.read_bytes() for path in made.archives)
    assert made.archives[0].name == made.archives[1].name
    assert one == other


def test_each_python_has_the_wheels_that_it_needs(made: Made, bundle: Path) -> None:
    assert "Python 3.13 is left out: this index gives the CUDA build of torch" in made.said
    assert "Python 3.12: installs without openvino" in made.said
    rows = [line.split()[:3] for line in (bundle / "PYTHONS").read_text().splitlines()]
    assert rows == [["3.11", "2.28", "2.31"], ["3.12", "2.28", "-"]]
    wheels = {path.name.split("-")[0] for path in (bundle / "wheels").iterdir()}
    assert {"torch", "openvino", "for_311", "for_312"} <= wheels
    assert "nvidia_cublas" not in wheels
    assert len(list((bundle / "wheels").glob("torch-*.whl"))) == 2


def test_the_bill_of_materials_names_every_wheel_and_package(bundle: Path) -> None:
    text = (bundle / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {part["bom-ref"]: part for part in json.loads(text)["components"]}
    files = {f"wheels/{path.name}": path for path in (bundle / "wheels").iterdir()}
    assert components.keys() == files.keys() | {"packages/colours/1"}
    for reference, path in files.items():
        part = components[reference]
        assert part["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert part["licenses"] == [{"license": {"id": "MIT"}}]
        texts = bundle / "licenses" / f"{part['name']}-{part['version']}"
        assert (texts / "licenses/LICENSE").read_text() == f"the licence of {part['name']}\n"


def test_the_first_signed_bundle_is_accepted_with_its_fingerprint(
    made: Made, check: Callable[..., str]
) -> None:
    signer = fingerprint(read_private_key(made.key).public_key())
    assert signer in made.said
    said = check(status=0)
    assert f"The bundle is signed by the key {signer}" in said
    assert "Compare this key" in said
    public = made.key.parent / "public/publisher.pem"
    assert "Compare" not in check("--key", public, status=0)


@pytest.mark.parametrize("sums", [False, True])
def test_a_changed_file_is_refused_also_with_renewed_checksums(
    bundle: Path, check: Callable[..., str], sums: bool
) -> None:
    (bundle / "install.sh").write_text("#!/bin/sh\n")
    if sums:
        renew_sums(bundle)
    assert ("changed after it was signed" if sums else "is damaged") in check()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_that_is_not_listed_is_refused(
    bundle: Path, check: Callable[..., str], kind: str
) -> None:
    extra = bundle / "wheels/flask-99-py3-none-any.whl"
    extra.symlink_to("/etc/passwd") if kind == "link" else extra.touch()
    assert "wheels/flask-99-py3-none-any.whl is not in SHA256SUMS" in check()


def test_a_kept_key_refuses_other_bundles_unless_they_are_named(
    made: Made, bundle: Path, tmp_path: Path, check: Callable[..., str]
) -> None:
    shutil.copy(bundle / "publisher.pem", tmp_path / "etc/bundle-key.pem")
    assert "Compare" not in check(status=0)
    other = write_key(tmp_path / "other.key", tmp_path / "etc")
    _sign(bundle, other)
    said = check()
    assert "signed by another key" in said
    assert fingerprint(read_private_key(made.key).public_key()) in said
    check("--key", tmp_path / "etc/other.pem", status=0)
    (bundle / "SHA256SUMS.sig").unlink()
    assert "is not signed, but" in check()
    assert "signature of the bundle is not checked" in check("--unsigned", status=0)
    (tmp_path / "etc/bundle-key.pem").unlink()
    assert "The bundle is not signed" in check(status=0)
    assert "expected a readable Ed25519 public key" in _checked_with_a_private_key(
        bundle, other, check
    )


def _checked_with_a_private_key(bundle: Path, key: Path, check: Callable[..., str]) -> str:
    _sign(bundle, key)
    return check("--key", key)


@pytest.mark.parametrize(
    ("python", "glibc", "told"),
    [
        ("3.11", "2.36", "ok       glibc 2.36"),
        ("3.11", "2.30", "warning  the wheel of openvino needs glibc 2.31: the server uses Torch"),
        ("3.11", "2.27", "failure  glibc 2.27: this bundle needs 2.28 or later"),
        ("3.12", "2.36", "warning  no wheel of openvino for Python 3.12: the server uses Torch"),
        ("3.13", "2.36", "wheels for Python 3.11, 3.12, and this machine has 3.13: install one of"),
    ],
)
def test_the_installer_takes_what_fits_the_machine(
    bundle: Path, tmp_path: Path, python: str, glibc: str, told: str
) -> None:
    programs = {
        # Answers the question for its version, and all others with success.
        "python": f"#!/bin/sh\ncase $2 in *version_info*) echo {python} ;; esac\n",
        "getconf": f"#!/bin/sh\necho glibc {glibc}\n",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    command = ["bash", bundle / "install.sh", "--check-only", "--unsigned"]
    said = _run(
        [*command, "--python", tmp_path / "python"], PATH=f"{tmp_path}:{os.environ['PATH']}"
    )
    assert told in said.stdout, said.stdout + said.stderr
