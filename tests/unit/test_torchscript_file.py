"""A TorchScript file that would exhaust the memory, or that nobody wants to run."""

import io
import json
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from app.errors import PackageError
from app.inference.engines.torchscript import load_module
from app.packages.build.models import read_torchscript
from app.packages.package import load_package
from app.packages.torchscript_file import MAX_UNPACKED_BYTES, check_unpacked_size
from tests.support.commands import run_classifyd
from tests.support.images import PHOTOS
from tests.support.models import build_sharp_package, classifyd

BOMB_BYTES = 256 * 1024**2


def inflate(path: Path, target: Path) -> Path:
    """Compress a TorchScript file, with an entry of zeros that torch would read into memory."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, old.read(name))
        with new.open(f"{root}/extra/zeros", "w") as entry:
            for _ in range(BOMB_BYTES // 2**20):
                entry.write(bytes(2**20))
    return target


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a package whose model unpacks to a quarter of a gigabyte."""
    folder = build_sharp_package(tmp_path_factory.mktemp("weights"), "bomb")
    model = folder / "model.pt"
    model.write_bytes(inflate(model, folder.parent.parent / "bomb.pt").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["sha256"] = sha256(model.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert model.stat().st_size < 2**20
    return folder


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("torch read the file")

    monkeypatch.setattr(torch.jit, "load", load)


@pytest.mark.usefixtures("without_torch")
def test_a_file_that_unpacks_to_too_much_is_refused_before_torch_reads_it(bomb: Path) -> None:
    model = bomb / "model.pt"
    for source in (model, io.BytesIO(model.read_bytes())):
        with pytest.raises(PackageError, match=r"bytes unpack to 268\d{6}, at most"):
            load_module(source)
    with pytest.raises(PackageError, match=r"save the model again with torch\.jit\.save"):
        read_torchscript(model)


@pytest.mark.parametrize("command", [("verify",), ("verify", "--no-run")])
def test_verify_refuses_it_with_and_without_running_it(
    bomb: Path, command: tuple[str, ...]
) -> None:
    ended = run_classifyd("package", *command, bomb, status=3)
    assert "model.pt" in ended.stderr
    assert "are allowed; save the model again" in ended.stderr


def test_a_large_file_is_refused_by_its_headers_alone(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"")
        # What the directory says; nobody looks whether the entry is so long.
        archive.filelist[0].file_size = MAX_UNPACKED_BYTES + 1
    with pytest.raises(PackageError, match=f"unpack to {MAX_UNPACKED_BYTES + 1}, at most"):
        check_unpacked_size(path)


def test_a_damaged_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"data")
    path.write_bytes(path.read_bytes().replace(b"PK\1\2", b"PK\1\3"))
    with pytest.raises(PackageError, match="found a damaged archive"):
        check_unpacked_size(path)


def test_ordinary_models_pass(tmp_path: Path) -> None:
    package = load_package(build_sharp_package(tmp_path))
    check_unpacked_size(package.model_path)
    memory = io.BytesIO(package.model_path.read_bytes())
    check_unpacked_size(memory)
    assert memory.tell() == 0
    assert load_module(memory)
    # What is no archive is torch's to refuse.
    check_unpacked_size(PHOTOS / "coffee.jpg")


@pytest.mark.usefixtures("without_torch")
def test_verify_without_running_checks_the_files_only(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path)
    ended = classifyd("package", "verify", "--no-run", folder)
    assert ended.exit_code == 0, ended.exception
    assert "its files are complete; the model was not run" in ended.output
    result = json.loads(classifyd("package", "verify", "--no-run", "--json", folder).output)
    assert (result["ok"], result["golden_samples"]) == (True, 3)
    (folder / "labels.txt").write_text("zero\n")
    assert "labels.txt" in str(classifyd("package", "verify", "--no-run", folder).exception)


def test_verify_says_that_it_runs_the_program_of_a_foreign_package(tmp_path: Path) -> None:
    folder = build_sharp_package(tmp_path / "download")
    ended = run_classifyd("package", "verify", folder)
    assert "the model is a program of the package's author, which is run now" in ended.stderr
    assert "--no-run" in ended.stderr
    assert "ok, 3 golden samples" in ended.stdout
    installed = ("--weights-dir", tmp_path / "download")
    assert "is a program" not in run_classifyd("package", "verify", folder, *installed).stderr
    assert "is a program" not in run_classifyd("package", "verify", "sharp", *installed).stderr
