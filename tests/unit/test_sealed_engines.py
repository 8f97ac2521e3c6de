"""Sealed packages on the engine that measures fastest, without a plain byte on a disk."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.errors import LockedPackage, TamperedPackage
from app.inference.engines import openvino
from app.inference.engines.base import EngineError
from app.inference.engines.converted_model import SEALED_FILE, read_converted_model
from app.inference.engines.torchscript import PlainTorchScript
from app.inference.tuning.loader import TunedLoader
from app.inference.tuning.reference import probe_batch
from app.inference.tuning.selection import EngineRequirements
from app.inference.tuning.tuner import tune
from app.licence.issue import seal_package
from app.licence.keys import content_key
from app.packages.package import Package, load_package
from tests.support.licences import CONTACT
from tests.support.packages import build_pooling_package

pytestmark = pytest.mark.skipif(not openvino.is_installed(), reason="needs openvino")
REQUIREMENTS = EngineRequirements(
    engine="openvino", precision="float32", device="cpu", threads=1, tolerance=0.001
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Package:
    return load_package(build_pooling_package(folder / "open", "pets"))


@pytest.fixture(scope="module")
def sealed(folder: Path, plain: Package) -> Package:
    publisher = Ed25519PrivateKey.generate()
    package = seal_package(plain.folder, folder / "w", publisher, CONTACT)
    return replace(package, content_key=content_key(publisher, "pets"))


@pytest.fixture(scope="module")
def state(folder: Path, sealed: Package) -> Path:
    """The state folder after tuning; temporary files included."""
    state = folder / "state"
    (state / "tmp").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(state / "tmp"))
        patch.setenv("HOME", str(state / "tmp"))
        TunedLoader(REQUIREMENTS, state).load(sealed)
    return state


def files_with_weights(folder: Path, package: Package) -> list[str]:
    """The files that hold a kernel of the model's convolution, in the clear."""
    module = torch.jit.load(package.model_path)
    kernel = module.state_dict()["convolution.weight"].numpy().tobytes()[:256]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if kernel in path.read_bytes()]


def test_a_sealed_package_is_served_by_the_engine_that_was_asked_for(
    sealed: Package, plain: Package, state: Path
) -> None:
    engine = TunedLoader(REQUIREMENTS, state).load(sealed).engine
    assert engine.name == "openvino"
    inputs = probe_batch(plain)
    expected = PlainTorchScript(plain.model_path).infer(inputs)
    assert np.abs(engine.infer(inputs) - expected).max() < 1e-4


def test_nothing_of_a_sealed_model_is_left_in_the_clear(
    sealed: Package, plain: Package, state: Path, tmp_path: Path
) -> None:
    assert files_with_weights(state, plain) == []
    assert [path.name for path in state.rglob(SEALED_FILE)] == [SEALED_FILE]
    assert list((state / "tmp").iterdir()) == []
    # The same search finds them where the package is open.
    tune(plain, REQUIREMENTS, tmp_path)
    assert "model.bin" in files_with_weights(tmp_path, plain)


def test_the_content_key_reaches_the_measuring_process_through_a_pipe_alone(
    sealed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], dict[str, Any]]] = []
    run = subprocess.run

    def watch(command: list[str], **options: Any) -> "subprocess.CompletedProcess[bytes]":
        calls.append((command, options))
        return run(command, **options)

    monkeypatch.setattr("app.inference.tuning.tuner.subprocess.run", watch)
    TunedLoader(REQUIREMENTS, tmp_path).load(sealed)
    key = sealed.content_key
    assert key is not None
    ((command, options),) = calls
    assert options.pop("input") == key
    seen = repr((command, options, dict(os.environ)))
    assert not any(text in seen for text in (key.hex(), repr(key)[2:-1]))


def test_a_damaged_conversion_is_made_again(sealed: Package, state: Path) -> None:
    (path,) = state.rglob(SEALED_FILE)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineError, match="cannot be opened"):
        read_converted_model(sealed, path.parent)
    assert TunedLoader(REQUIREMENTS, state).load(sealed).engine.name == "openvino"
    assert read_converted_model(sealed, path.parent)


def test_another_file_of_the_same_key_is_no_conversion(sealed: Package, tmp_path: Path) -> None:
    (tmp_path / SEALED_FILE).write_bytes(sealed.model_path.read_bytes())
    with pytest.raises(EngineError, match="cannot be opened"):
        read_converted_model(sealed, tmp_path)


def test_a_key_that_does_not_open_the_package_is_named_before_anything_is_measured(
    sealed: Package, tmp_path: Path
) -> None:
    loader = TunedLoader(REQUIREMENTS, tmp_path)
    with pytest.raises(TamperedPackage):
        loader.load(replace(sealed, content_key=bytes(32)))
    with pytest.raises(LockedPackage):
        loader.load(replace(sealed, content_key=None))
    assert list(tmp_path.iterdir()) == []
